from tests.lab.vme.conftest import make_standin, standin

__all__ = ["make_standin", "standin"]
