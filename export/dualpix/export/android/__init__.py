"""The phone over adb: installing the app, capturing through it, and measuring networks on it."""
