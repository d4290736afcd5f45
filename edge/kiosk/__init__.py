"""Boxes for machines without a network, and the service there. Only this part may assume Linux."""
