//! Figures of a session, by the names of libsrt's `srt_bstats` (`CBytePerfMon`).

macro_rules! statistics {
    ($($field:ident: $type:ty = $name:literal, $doc:literal;)*) => {
        /// Figures of a session since its begin, and some of the moment.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct Statistics {
            $(#[doc = $doc] pub $field: $type,)*
        }

        impl Statistics {
            /// Each figure with libsrt's name of it.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
                [$(($name, self.$field as f64)),*].into_iter()
            }
        }
    };
}

statistics! {
    ms_time_stamp: u64 = "msTimeStamp", "Milliseconds since the begin.";
    pkt_sent_total: u64 = "pktSentTotal", "Data packets sent, those sent again too.";
    pkt_recv_total: u64 = "pktRecvTotal", "Data packets received, doubles too.";
    pkt_sent_unique_total: u64 = "pktSentUniqueTotal", "Data packets sent for the first time.";
    pkt_recv_unique_total: u64 = "pktRecvUniqueTotal", "Data packets received for the first time.";
    pkt_snd_loss_total: u64 = "pktSndLossTotal", "Packets that the peer reported as lost.";
    pkt_rcv_loss_total: u64 = "pktRcvLossTotal", "Packets found missing, some of which came later.";
    pkt_retrans_total: u64 = "pktRetransTotal", "Packets sent again.";
    pkt_rcv_retrans_total: u64 = "pktRcvRetransTotal", "Packets received that were sent again.";
    pkt_sent_ack_total: u64 = "pktSentACKTotal", "Acknowledgements sent.";
    pkt_recv_ack_total: u64 = "pktRecvACKTotal", "Acknowledgements received.";
    pkt_sent_nak_total: u64 = "pktSentNAKTotal", "Loss reports sent.";
    pkt_recv_nak_total: u64 = "pktRecvNAKTotal", "Loss reports received.";
    pkt_snd_drop_total: u64 = "pktSndDropTotal", "Packets given up by the sending side: too late.";
    pkt_rcv_drop_total: u64 = "pktRcvDropTotal", "Packets given up by the receiving side: too late.";
    pkt_rcv_belated_total: u64 = "pktRcvBelated", "Packets that came after they were given up or delivered.";
    pkt_rcv_undecrypt_total: u64 = "pktRcvUndecryptTotal", "Packets that could not be decrypted.";
    byte_sent_total: u64 = "byteSentTotal", "Bytes sent, with headers.";
    byte_recv_total: u64 = "byteRecvTotal", "Bytes received, with headers.";
    byte_sent_unique_total: u64 = "byteSentUniqueTotal", "Bytes sent for the first time, with headers.";
    byte_recv_unique_total: u64 = "byteRecvUniqueTotal", "Bytes received for the first time, with headers.";
    byte_retrans_total: u64 = "byteRetransTotal", "Bytes sent again, with headers.";
    byte_snd_drop_total: u64 = "byteSndDropTotal", "Bytes given up by the sending side.";
    byte_rcv_drop_total: u64 = "byteRcvDropTotal", "Bytes given up by the receiving side: estimated.";
    byte_rcv_undecrypt_total: u64 = "byteRcvUndecryptTotal", "Bytes that could not be decrypted.";
    us_pkt_snd_period: f64 = "usPktSndPeriod", "Microseconds between packets that the pace keeps; 0: no limit.";
    pkt_flow_window: u32 = "pktFlowWindow", "Packets that may be on their way.";
    pkt_flight_size: u32 = "pktFlightSize", "Packets on their way.";
    ms_rtt: f64 = "msRTT", "Round trip in milliseconds.";
    mbps_send_rate: f64 = "mbpsSendRate", "Mbit/s sent on average.";
    mbps_recv_rate: f64 = "mbpsRecvRate", "Mbit/s received on average.";
    mbps_bandwidth: f64 = "mbpsBandwidth", "Mbit/s that the link may carry, as the peer estimates it.";
    mbps_max_bw: f64 = "mbpsMaxBW", "Mbit/s allowed; -1: no limit.";
    byte_mss: u32 = "byteMSS", "Largest IP packet.";
    pkt_snd_buf: u32 = "pktSndBuf", "Packets that are kept, to be sent or acknowledged.";
    byte_snd_buf: u32 = "byteSndBuf", "Their bytes.";
    ms_snd_buf: u32 = "msSndBuf", "Milliseconds from the oldest to the newest of them.";
    ms_snd_tsb_pd_delay: u32 = "msSndTsbPdDelay", "Latency of the peer's receiving side.";
    pkt_rcv_buf: u32 = "pktRcvBuf", "Packets that wait to be delivered.";
    byte_rcv_buf: u32 = "byteRcvBuf", "Their bytes.";
    ms_rcv_buf: u32 = "msRcvBuf", "Milliseconds from the oldest to the newest of them.";
    ms_rcv_tsb_pd_delay: u32 = "msRcvTsbPdDelay", "Latency of our receiving side.";
    pkt_reorder_distance: u32 = "pktReorderDistance", "Packets that a packet came too late by, at most.";
    pkt_reorder_tolerance: u32 = "pktReorderTolerance", "Packets that one may come late by without being reported.";
}
