"""The body of a remote write request: Prometheus' protobuf message `WriteRequest`, compressed as a snappy block.

The format is remote write 1.0 (https://prometheus.io/docs/specs/prw/remote_write_spec/). Both libraries are imported
when the first request is made, so that they cost nothing where remote write is not configured.
"""

import struct
from collections.abc import Iterable
from functools import cache
from typing import Any

Labels = tuple[tuple[str, str], ...]
"""The labels of one series, `__name__` among them, sorted by name."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""The value that says that a series has ended: a NaN of its own, as the specification defines it. Others are values."""

_STRING, _DOUBLE, _INT64, _MESSAGE = 9, 1, 3, 11
"""Types of fields in a descriptor."""
_ONE, _REPEATED = 1, 3
_MESSAGES: dict[str, tuple[tuple[str, int, int, str | None], ...]] = {
    "Label": (("name", _STRING, _ONE, None), ("value", _STRING, _ONE, None)),
    "Sample": (("value", _DOUBLE, _ONE, None), ("timestamp", _INT64, _ONE, None)),
    "TimeSeries": (
        ("labels", _MESSAGE, _REPEATED, ".prometheus.Label"),
        ("samples", _MESSAGE, _REPEATED, ".prometheus.Sample"),
    ),
    "WriteRequest": (("timeseries", _MESSAGE, _REPEATED, ".prometheus.TimeSeries"),),
}
"""The part of Prometheus' `remote.proto` and `types.proto` that is used. Fields are numbered in this order."""


def write_request(series: Iterable[tuple[Labels, float]], at: int) -> bytes:
    """One sample of each series, at `at` in milliseconds since the epoch."""
    import cramjam

    request = message_class("WriteRequest")()
    for labels, value in series:
        one = request.timeseries.add()
        for name, text in labels:
            one.labels.add(name=name, value=text)
        one.samples.add(value=value, timestamp=at)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


@cache
def message_class(name: str) -> Any:
    """The class of one of the messages."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"prometheus.{name}"))


@cache
def _pool() -> Any:
    """The messages, in a pool of their own."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(name="prometheus.proto", package="prometheus", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, label, of) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=label, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
