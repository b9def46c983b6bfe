"""The demo: brings a lab up, sets a project up and moves its servers, all through the web pages as people would."""
