"""Labels of boxes: their fonts, their places, and how they are drawn."""
