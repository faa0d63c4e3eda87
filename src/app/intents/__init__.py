"""The intents: what is true after every hook. An intent changes nothing if it is true already."""
