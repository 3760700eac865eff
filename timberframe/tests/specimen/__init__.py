"""An application for the tests of the frame: users, products, and the movements of their stock."""
