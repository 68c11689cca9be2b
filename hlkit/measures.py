"""What can be measured in a picture without learning: how sharp it is, and how its brightness is spread.

- *Sharpness* is the variance of the Laplacian, the usual measure of focus (Pech-Pacheco and others 2000): the picture
  of grey levels (0 to 255) is convolved with the four-neighbour Laplacian, and the variance of the result is taken. It
  grows with the size of the picture and with what the picture shows, so it can only be compared among alike pictures.
- *Brightness* is luma (ITU-R BT.601), its histogram in 16 equal bins from black to white.

As the front of a classifier (`ModelConfig(backbone="measures")`) they make the classical method that a network must
beat: a logistic regression on them, learned by the same training and scored by the same code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LUMA = (0.299, 0.587, 0.114)
BINS = 16
NUM_MEASURES = 1 + BINS

# A picture of one colour has a variance of 0; below one grey level squared there is nothing but an encoder's noise.
LEAST_VARIANCE = 1.0


def sharpness(images: Tensor) -> Tensor:
    """The variance of the Laplacian of pictures `(B, 3, H, W)`, uint8 or float in [0, 1]: float `(B,)`, grey levels
    squared.
    """
    grey = _luma(images) * 255
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (around - 4 * inner).flatten(1).var(dim=1, correction=0)


def brightness(images: Tensor) -> Tensor:
    """The mean luma of pictures `(B, 3, H, W)`, uint8 or float in [0, 1]: float `(B,)`, 0 (black) to 1 (white)."""
    return _luma(images).flatten(1).mean(1)


def brightness_histogram(images: Tensor) -> Tensor:
    """The share of pixels in each of 16 bins of luma, from black to white: float `(B, 16)`, each row sums to 1."""
    places = (_luma(images).flatten(1) * BINS).long().clamp(0, BINS - 1)
    counts = torch.zeros(len(places), BINS, device=images.device)
    return counts.scatter_add_(1, places, torch.ones_like(places, dtype=counts.dtype)) / places.shape[1]


class PictureMeasures(nn.Module):
    """Pictures `(B, 3, H, W)` in [0, 1] -> `(B, 17)`: the logarithm (base 10) of sharpness, then the histogram.

    Each is standardised by what training pictures have, so that one learning rate suits all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.BatchNorm1d(NUM_MEASURES, affine=False)

    def forward(self, images: Tensor) -> Tensor:
        """In float32 whatever surrounds it: in bfloat16 a mean of ten thousand pixels loses its digits."""
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            edges = sharpness(images).clamp(min=LEAST_VARIANCE).log10()
            return self.scale(torch.cat([edges[:, None], brightness_histogram(images)], dim=1))


def _luma(images: Tensor) -> Tensor:
    """`(B, H, W)`, 0 to 1."""
    images = images / 255 if images.dtype == torch.uint8 else images
    weights = torch.tensor(LUMA, device=images.device, dtype=images.dtype)
    return torch.einsum("bchw,c->bhw", images, weights)
