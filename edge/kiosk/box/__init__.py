"""What runs on a kiosk: install a box, try it, switch to it, go back.

Travels inside the box and needs the standard library alone: it runs before anything is installed. Its files can be
compiled by Python 3.8, so that an older Python than the box needs is told so in words.
"""
