# Plays by WHEP with aiortc: python whep.py URL SECONDS. The last line is JSON of what came.
import asyncio
import json
import sys
import time
import urllib.parse
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

url, seconds = sys.argv[1], float(sys.argv[2])
told = {"video": 0, "audio": 0, "width": 0}


def ask(method, place, body=None):
    kind = {"content-type": "application/sdp"}
    request = urllib.request.Request(place, data=body, method=method, headers=kind)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return reply.status, reply.headers, reply.read().decode()


async def take(track):
    try:
        while True:
            frame = await track.recv()
            if not told[track.kind]:
                told[track.kind + "_after"] = round(time.monotonic() - begin, 3)
            told[track.kind] += 1
            if track.kind == "video":
                told["width"] = frame.width
    except MediaStreamError:
        pass


async def main():
    global begin
    peer = RTCPeerConnection()
    peer.addTransceiver("audio", direction="recvonly")
    peer.addTransceiver("video", direction="recvonly")
    tasks = []
    peer.on("track", lambda track: tasks.append(asyncio.ensure_future(take(track))))
    await peer.setLocalDescription(await peer.createOffer())
    begin = time.monotonic()
    loop = asyncio.get_running_loop()
    body = peer.localDescription.sdp.encode()
    status, headers, answer = await loop.run_in_executor(None, lambda: ask("POST", url, body))
    assert status == 201, status
    place = urllib.parse.urljoin(url, headers["location"])
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    deadline = time.monotonic() + 25
    while told["video"] < 5 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    print("flows", flush=True)
    await asyncio.sleep(seconds)
    told["state"] = peer.connectionState
    told["deleted"] = (await loop.run_in_executor(None, lambda: ask("DELETE", place)))[0]
    await peer.close()


begin = 0
asyncio.run(main())
print(json.dumps(told))
