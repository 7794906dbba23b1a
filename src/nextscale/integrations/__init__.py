"""nextscale behind the interfaces of other libraries."""
