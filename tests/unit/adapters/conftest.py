"""Generated tests say what is true, not how fast: machines that test are busy."""

import hypothesis

hypothesis.settings.register_profile("patient", deadline=None, print_blob=True)
hypothesis.settings.load_profile("patient")
