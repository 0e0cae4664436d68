"""The panes of the main screen: each draws one part of the latest view when the tick hands it over.

No pane fetches, polls or keeps state of the engine; what a pane cannot know it shows as unknown, with the reason.
"""
