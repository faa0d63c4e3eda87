"""The ports without Juju: processes of this machine, and the records that units share."""
