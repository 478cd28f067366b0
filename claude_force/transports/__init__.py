"""Floor 1: how Claude is reached: `live` through the SDK, `simulator` on loopback."""
