"""The venue kit: numbered cases that every venue has to pass before the engine may trade on it.

A case drives the whole engine against the venue through a :class:`venue_kit.rig.Rig`, which plays the world
around it. Each case names the capabilities that the rig needs for it; a venue whose rig lacks one skips the case, and
stands in ``SKIPS`` of ``tests/conformance/test_venue_kit.py`` for it. That list only shrinks. Numbers are for ever: a
case that goes leaves a hole.
"""
