"""Protocols of any scanner."""

import numpy as np

from cmb_autoseg.simulation.protocols import PROTOCOLS
from cmb_autoseg.starter.protocols import ProtocolRanges, draw_protocols


def drawn(n=300, **ranges):
    return draw_protocols(np.random.default_rng(0), n, ProtocolRanges(**ranges))


def limits(ranges):
    """In-plane and slice spacing that can occur."""
    slices = ranges.slice_mm_3d + ranges.slice_mm_2d
    return *ranges.in_plane_mm, min(slices), max(slices)


def test_what_is_drawn_lies_within_the_ranges_and_fills_them():
    ranges, some = ProtocolRanges(), drawn()
    least, most, thinnest, thickest = limits(ranges)
    in_plane, slices = np.array([(p.spacing_mm[0], p.spacing_mm[2]) for p in some]).T

    assert least <= in_plane.min() < 1.1 * least
    assert 0.9 * most < in_plane.max() <= most
    assert thinnest <= slices.min() < 1.2 * thinnest
    assert 0.9 * thickest < slices.max() <= thickest
    assert (slices >= in_plane).all()
    for field, (low, high) in ranges.echo_times_ms:
        own = [p.echo_time_ms for p in some if p.field_strength_t == field]
        assert low <= min(own) < max(own) <= high


def test_a_protocol_can_be_scanned():
    for protocol in drawn():
        assert protocol.repetition_time_ms > protocol.echo_time_ms
        assert all(0.6 <= share <= 1 for share in protocol.partial_fourier)
        if protocol.acquired_mm is not None:
            assert all(a >= s - 1e-9 for a, s in zip(protocol.acquired_mm, protocol.spacing_mm, strict=True))
        if protocol.is_2d:
            assert protocol.partial_fourier[2] == 1
            assert protocol.acquired_mm is None or protocol.acquired_mm[2] == protocol.spacing_mm[2]


def test_kinds_come_as_often_as_their_shares_say():
    some = drawn(1000)
    assert 0.30 < np.mean([p.is_2d for p in some]) < 0.40
    assert 0.30 < np.mean([p.field_strength_t == 1.5 for p in some]) < 0.40
    assert 0.20 < np.mean([len(p.echo_times_ms) == 2 for p in some]) < 0.30


def test_the_cohorts_that_are_known_lie_within_the_ranges():
    least, most, thinnest, thickest = limits(ProtocolRanges())
    for protocol in PROTOCOLS.values():
        assert least <= protocol.spacing_mm[0] <= most, protocol.name
        assert thinnest <= protocol.spacing_mm[2] <= thickest, protocol.name


def test_the_same_generator_gives_the_same_protocols():
    assert drawn(5) == drawn(5)
