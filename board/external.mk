include $(sort $(wildcard $(BR2_EXTERNAL_RILLBOX_PATH)/package/*/*.mk))
