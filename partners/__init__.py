"""What a partner reads and installs, one folder a role; shipped as ``fedprofile.partners``. Holds no code."""
