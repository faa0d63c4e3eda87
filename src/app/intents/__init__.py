"""The intents: what has to be true after a hook. An intent changes nothing if it is true already."""
