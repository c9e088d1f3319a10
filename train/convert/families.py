"""The families of models that are read and written as diffusers has them: one line each."""

from train.convert.family import Family
from train.convert.latte import Latte
from train.convert.ltx import LTX
from train.convert.pixart import PixArt
from train.convert.sana import Sana
from train.convert.wan import Wan

FAMILIES: tuple[Family, ...] = (
    Wan(),
    PixArt(),
    Latte(),
    LTX(),
    Sana(),
)
