"""Events of several types beside purchases: their rows, returns, and what histories keep of them."""
