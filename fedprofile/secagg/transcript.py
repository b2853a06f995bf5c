"""The public messages of one set-up in one record: what another process, or an auditor, needs to check it again."""

from __future__ import annotations

from fedprofile.secagg.open_messages import OpenBundle
from fedprofile.secagg.setup_messages import KeyBundle, SetupReq
from fedprofile.secagg.wire import Buffer, Reader, Writer

TYPE = "Transcript"
MAX = SetupReq.MAX + KeyBundle.MAX + OpenBundle.MAX + 64


def join(request: bytes, bundle: bytes = b"", opens: bytes = b"") -> bytes:
    """A set-up so far: what has not come yet is empty."""
    return Writer(TYPE).put(request).put(bundle).put(opens).done()


def split(data: Buffer) -> tuple[bytes, bytes, bytes]:
    """(SetupReq, KeyBundle, OpenBundle) as bytes, empty if not there. Raises RemoteProtocolError for anything else."""
    r = Reader(data, TYPE, MAX)
    parts = r.take(), r.take(), r.take()
    r.end()
    return parts
