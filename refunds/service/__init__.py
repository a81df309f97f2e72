"""The HTTP service: health, and the gateway's word. Approval pages come with their own issue."""
