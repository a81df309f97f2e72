"""The payment gateway: Stripe's refund API over the books of the sandbox."""
