# An HTTP/3 client that asks 127.0.0.1:PORT for /stopped, and sends STOP_SENDING
# for its answer when a line comes from standard input; with the next one it
# leaves.

import asyncio
import ssl
import sys

from aioquic.asyncio import connect
from aioquic.h3.connection import H3_ALPN, H3Connection, ErrorCode
from aioquic.quic.configuration import QuicConfiguration


async def main(port):
    settings = QuicConfiguration(alpn_protocols=H3_ALPN,
                                 verify_mode=ssl.CERT_NONE)

    async with connect("127.0.0.1", port, configuration=settings) as client:
        quic = client._quic
        stream = quic.get_next_available_stream_id()

        H3Connection(quic).send_headers(stream, [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/stopped"),
        ], end_stream=True)
        client.transmit()

        sys.stdin.readline()
        quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        client.transmit()

        sys.stdin.readline()


asyncio.run(main(int(sys.argv[1])))
