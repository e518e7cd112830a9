"""The order service: takes orders over HTTP and decides what becomes of them."""
