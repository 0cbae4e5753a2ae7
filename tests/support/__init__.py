"""What tests stand on: stores, devices, pages, fakes, and checks of a whole store."""
