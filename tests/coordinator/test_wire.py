from fedprofile.coordinator.wire import Wire
from fedprofile.messages import Envelope


def test_messages_and_bytes_are_counted_by_type_and_direction():
    wire, plan = Wire(), Envelope("plan")
    wire.sent({"a": plan, "b": plan}, {"a": b"123", "b": b"12345"})
    wire.received("approval", 7)
    wire.received("approval", 1)
    assert wire.down == {"plan": {"messages": 2, "bytes": 8}}
    assert wire.up == {"approval": {"messages": 2, "bytes": 8}}


def test_a_whole_run_is_counted_byte_by_byte(world):
    up, down = {}, {}

    def via(party, request):
        reply = world.node(party).handle(request)
        for count, data in ((down, request), (up, reply)):
            kind = Envelope.decode(data).type
            messages, size = count.get(kind, (0, 0))
            count[kind] = messages + 1, size + len(data)
        return reply

    wire = world.drive(via=via).wire
    assert {k: (v["messages"], v["bytes"]) for k, v in wire.up.items()} == up
    assert {k: (v["messages"], v["bytes"]) for k, v in wire.down.items()} == down
