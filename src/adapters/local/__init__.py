"""The platform without Juju: real processes on one machine, or only a memory of them."""
