"""The outside world in a box: shop, gateway, CRM, coupons, logistics, inbox; HTTP and SQL only."""
