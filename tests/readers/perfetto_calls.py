"""Reads a Perfetto trace by the code that was generated from Perfetto's own schema."""

import sys

from calls import Lanes
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent, TracePacket

trace = Trace()
with open(sys.argv[1], "rb") as file:
    trace.ParseFromString(file.read())

names, categories, threads, parents, counters = {}, {}, {}, {}, {}
flows, lost, annotated = {}, 0, 0
lanes = Lanes()
valid = set()
for packet in trace.packet:
    sequence = packet.trusted_packet_sequence_id
    if packet.sequence_flags & TracePacket.SEQ_INCREMENTAL_STATE_CLEARED:
        valid.add(sequence)
    for name in packet.interned_data.event_names:
        names[name.iid] = name.name
    for category in packet.interned_data.event_categories:
        categories[category.iid] = category.name
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        assert track.uuid not in threads and track.uuid not in parents, "a track described twice"
        parents[track.uuid] = track.parent_uuid
        if track.HasField("thread"):
            threads[track.uuid] = track.thread.tid
        if track.HasField("counter"):
            counters[track.uuid] = 0
    if packet.HasField("track_event"):
        assert sequence in valid, "an event before its sequence is valid"
        event, at = packet.track_event, packet.timestamp
        track = event.track_uuid
        tid = threads.get(track, threads.get(parents.get(track)))
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert len(event.category_iids) == 1 and event.category_iids[0] in categories
            lanes.begin(tid, track, at, names[event.name_iid])
            flows.update((flow, names[event.name_iid]) for flow in event.flow_ids)
        elif event.type == TrackEvent.TYPE_SLICE_END:
            lanes.end(track, at)
            annotated += len(event.debug_annotations)
        elif event.type == TrackEvent.TYPE_COUNTER:
            assert track in counters
            counters[track] = event.counter_value
        for flow in event.terminating_flow_ids:
            assert flow in flows, "a flow that began nowhere"
            print(f"# flow {flows[flow]} {tid}")
lanes.finish()
print(f"# lost {sum(counters.values())}")
print(f"# annotated {annotated}")
