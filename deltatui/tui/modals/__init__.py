"""Dialogs over the main screen. Each focuses what does nothing, and none sends an order before it has been seen."""
