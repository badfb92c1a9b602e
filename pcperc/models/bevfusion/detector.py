# SPDX-License-Identifier: Apache-2.0
"""BEVFusion: camera and LiDAR meet in a shared bird's-eye view, from which task heads read.

Source: Liu et al., BEVFusion: Multi-task multi-sensor fusion with unified bird's-eye view representation, ICRA 2023,
figure 2.
"""

from mmengine.model import BaseModel
from torch import Tensor, nn

from pcperc.geometry import Detections, inverse, transform_boxes
from pcperc.models.bevfusion.detection_votes import DetectionVotes
from pcperc.registry import MODELS

# The fuser's weights depend on this order.
MODALITIES = ("camera", "lidar")
VOTED = ("object", "map")  # heads whose results test-time augmentation merges


@MODELS.register_module()
class BEVFusion(BaseModel):
    """Encoders, fuser, decoder and heads.

    Args:
        encoders: "camera" and/or "lidar" to a module that turns the batch's ``inputs`` into a map (B, C, X, Y); None
            leaves a modality out.
        decoder: fused map to the map the heads read.
        heads: task to head; "object" gives detections. A head has ``forward(bev)``, ``loss(output, samples)`` and
            ``predict(output)``.
        fuser: list of maps, camera first, to one map; needed with two encoders.
        data_preprocessor: see BEVFusionPreprocessor.
        votes: test-time augmentation of the heads "object" and "map"; None shows each scene once, as it is.
        image_head: beside the heads, in training alone: teaches a ``CameraEncoder`` by its features and depths,
            ``loss(image_feats, depths, inputs, samples)``, such as ``ImageHead``.
    Raises:
        ValueError: an unknown modality, no encoder or no head, two encoders without a fuser, an image head without a
            camera encoder.
    """

    def __init__(
        self,
        encoders: dict[str, nn.Module | None],
        decoder: nn.Module,
        heads: dict[str, nn.Module],
        *,
        fuser: nn.Module | None = None,
        data_preprocessor: nn.Module | None = None,
        votes: DetectionVotes | None = None,
        image_head: nn.Module | None = None,
    ):
        super().__init__(data_preprocessor)
        present = [name for name in MODALITIES if encoders.get(name) is not None]
        if set(encoders) - set(MODALITIES) or not present:
            raise ValueError(f"BEVFusion: encoders must be some of {MODALITIES}, got {sorted(encoders)}")
        if len(present) > 1 and fuser is None:
            raise ValueError(f"BEVFusion: fuser must be given for the encoders {present}, got None")
        if not heads:
            raise ValueError("BEVFusion: heads must name at least one task, got none")
        if image_head is not None and "camera" not in present:
            raise ValueError(f"BEVFusion: image_head must come with a camera encoder, got the encoders {present}")
        self.encoders = nn.ModuleDict({name: encoders[name] for name in present})
        self.fuser, self.votes = fuser, votes
        self.decoder = decoder
        self.heads = nn.ModuleDict(heads)
        self.image_head = image_head
        self.captured = nn.ModuleDict()  # by capture_frame: encoders by modality, and "read_out"

    def train(self, mode: bool = True) -> "BEVFusion":
        if mode and self.captured:
            raise ValueError("BEVFusion: a captured model is for inference, and cannot be put into training mode")
        return super().train(mode)

    def forward(self, inputs: dict, samples: list[dict] | None = None, mode: str = "tensor"):
        """Run the network on a prepared batch.

        Args:
            inputs, samples: the batch as of the data preprocessor; docs/conventions.md lists the keys.
            mode: what to return.
        Returns:
            "tensor": dict from task to the head's output. "loss": dict of scalars, ``<task>/<name>``; those with
            "loss" in the name are to be summed. "predict": with one head the list of its B results, with several a
            list of B dicts from task to result; detections are in the recorded LiDAR frame.
        Raises:
            ValueError: another mode, or a loss without samples.
        """
        if mode not in ("tensor", "loss", "predict"):
            raise ValueError(f"BEVFusion: mode must be 'tensor', 'loss' or 'predict', got {mode!r}")
        if mode == "loss" and samples is None:
            raise ValueError("BEVFusion: samples must be given for a loss, got None")
        if mode == "loss" and self.image_head is not None:
            return self._losses_with_image_head(inputs, samples)
        outputs = self._outputs(inputs, tuple(self.heads))
        if mode == "tensor":
            return outputs
        if mode == "loss":
            return self._losses(outputs, samples)
        return self._predictions(outputs, inputs)

    def _outputs(self, inputs: dict, tasks: tuple[str, ...]) -> dict:
        """What the heads of these tasks say."""
        encoders, read_out = self.encoders, self.read_out
        if self.captured:
            encoders, read_out = {**encoders, **self.captured}, self.captured["read_out"]
        return read_out(tasks, *(encoders[name](inputs) for name in self.encoders))

    def read_out(self, tasks: tuple[str, ...], *features: Tensor) -> dict:
        """Fuse and decode the encoders' maps; return the outputs of the heads of these tasks."""
        bev = self.decoder(features[0] if self.fuser is None else self.fuser(features))
        return {task: self.heads[task](bev) for task in tasks}

    def _losses(self, outputs: dict, samples: list[dict]) -> dict[str, Tensor]:
        """Losses of all heads, the task in front of each name."""
        return {
            f"{task}/{name}": value
            for task, output in outputs.items()
            for name, value in self.heads[task].loss(output, samples).items()
        }

    def _losses_with_image_head(self, inputs: dict, samples: list[dict]) -> dict[str, Tensor]:
        """Losses of all heads and, as ``image/<name>``, of the image head, which reads what is lifted and how far."""
        camera = self.encoders["camera"]
        image_feats = camera.image_feats(inputs["images"])
        bev, depths = camera.view_transform.with_depths(image_feats, inputs)
        maps = {"camera": bev}
        maps |= {name: encoder(inputs) for name, encoder in self.encoders.items() if name != "camera"}
        losses = self._losses(self.read_out(tuple(self.heads), *(maps[name] for name in self.encoders)), samples)
        own = self.image_head.loss(image_feats, depths, inputs, samples)
        return losses | {f"image/{name}": value for name, value in own.items()}

    def _predictions(self, outputs: dict, inputs: dict) -> list:
        """Results of all heads by sample, detections back in the recorded LiDAR frame."""
        results = {task: self.heads[task].predict(output) for task, output in outputs.items()}
        if "object" in results:
            results["object"] = self._recorded(results["object"], inputs)
        if self.votes is not None:
            results |= self._merged_views({task: results[task] for task in VOTED if task in results}, inputs)
        if len(results) == 1:
            return next(iter(results.values()))
        return [dict(zip(results, sample, strict=True)) for sample in zip(*results.values(), strict=True)]

    @staticmethod
    def _recorded(found: list[Detections], inputs: dict) -> list[Detections]:
        """Return detections in the recorded LiDAR frame."""
        if "lidar_aug" not in inputs:
            return found
        return [to_recorded_frame(one, lidar_aug) for one, lidar_aug in zip(found, inputs["lidar_aug"], strict=True)]

    def _merged_views(self, found: dict[str, list], inputs: dict) -> dict[str, list]:
        """Merge the results of each task with those of the other views that ``votes`` shows."""
        views = {task: [results] for task, results in found.items()}
        for moved in self.votes.moved(inputs, self.data_preprocessor):
            for task, output in self._outputs(moved, tuple(found)).items():
                results = self.heads[task].predict(output)
                views[task].append(self._recorded(results, moved) if task == "object" else results)
        merge = {"object": self.votes.merge, "map": self.votes.merge_maps}
        return {task: [merge[task](sample) for sample in zip(*own, strict=True)] for task, own in views.items()}


def to_recorded_frame(detections: Detections, lidar_aug: Tensor) -> Detections:
    """Undo ``lidar_aug`` (4, 4), which may turn, scale, mirror and move."""
    device = detections.boxes.device
    # On the CPU: so few numbers that on a GPU each of two dozen steps would be little but a launch.
    boxes = transform_boxes(detections.boxes.cpu(), inverse(lidar_aug.cpu().double()))
    return Detections(boxes.to(device), detections.scores, detections.labels)
