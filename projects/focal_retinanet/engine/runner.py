"""mmengine's Runner with checked data and checkpoints, and a readable console."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn
from torch.utils.data import DataLoader

from focal_retinanet.acceleration.accelerate import accelerate
from focal_retinanet.acceleration.fast_conv import freeze_weights
from focal_retinanet.acceleration.frozen import unfreeze_weights
from focal_retinanet.cli.console import quiet_console
from focal_retinanet.cli.errors import UserError
from focal_retinanet.data.built_datasets import unite_metainfo
from focal_retinanet.data.check_data import CocoSource, checked_loading, coco_sources
from focal_retinanet.data.dataset_meta import describe_other_classes, meta_of
from focal_retinanet.data.image_errors import name_image_errors
from focal_retinanet.engine.checkpoints.arguments import check_arguments
from focal_retinanet.engine.checkpoints.fit import check_can_be_resumed, check_fits
from focal_retinanet.engine.checkpoints.resumed_settings import (
    describe_changed_settings,
    describe_other_settings,
)
from focal_retinanet.engine.checkpoints.start import keep_what_fits
from focal_retinanet.engine.hooks.anchor_reach import AnchorReachHook
from focal_retinanet.engine.hooks.best_checkpoint import BestCheckpointHook
from focal_retinanet.engine.hooks.iteration_seed import (
    IterationSeedHook,
    with_seeded_batches,
)
from focal_retinanet.engine.hooks.missed_validation import MissedValidationHook
from focal_retinanet.engine.hooks.nothing_found import NothingFoundHook
from focal_retinanet.engine.hooks.plain_checkpoint import PlainCheckpointHook
from focal_retinanet.engine.work_dir import (
    checkpoint_dir,
    has_checkpoints,
    latest_checkpoint,
    move_noted_checkpoints,
)
from focal_retinanet.evaluation.check_evaluator import check_evaluator
from focal_retinanet.evaluation.evaluator_files import (
    coco_metrics,
    copy_evaluator,
    name_ann_files,
    sources_to_evaluate,
)
from focal_retinanet.export import ExportedModel
from focal_retinanet.registry import RUNNERS
from focal_retinanet.visualization.file_names import unique_names

#: Hooks of every run, whatever its config names.
_HOOKS = (
    PlainCheckpointHook,
    BestCheckpointHook,
    AnchorReachHook,
    NothingFoundHook,
    MissedValidationHook,
)

#: Default hooks that mmengine adds by itself, and leaves out only for None.
_MMENGINE_HOOKS = (
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
)


@RUNNERS.register_module()
class Runner(MMEngineRunner):
    """mmengine's runner with these differences:

    - the console shows progress and results; environment, config and initialization
      go to the log file;
    - annotation files are checked while they are loaded, and evaluators take the
      files of their data sets;
    - ``IterationSeedHook``, if it is a hook, seeds the batches too;
    - detections of the last validation and of a test are kept next to the log,
      for ``tools/compare.py``;
    - ``channels_last``, ``fold_batch_norm``, ``winograd`` and ``compile`` make
      the model faster, see :mod:`focal_retinanet.acceleration.accelerate`;
    - checkpoints load with ``torch.load(..., weights_only=True)``, and must fit the
      model, see :mod:`focal_retinanet.engine.checkpoints.fit`;
    - a training starts from the weights that fit, and ends with its best checkpoint;
    - a resumed training makes up for a validation during which it was stopped;
    - objects out of reach of the anchors are a warning, and so are the likely causes
      of finding nothing;
    - a work directory can be resumed after it was moved or copied, see
      :mod:`focal_retinanet.engine.work_dir`, and its config stays that of the training;
    - ``auto_scale_lr`` counts the images of a step of the optimizer, also where it
      adds up the gradients of several iterations;
    - ``launcher='pytorch'`` works without CUDA, over gloo, where mmengine's
      ``init_dist`` needs a GPU.

    Attributes:
        start_from: Checkpoint whose weights a training starts from if there is
            nothing to resume.
    """

    start_from: str | None = None
    #: File of the checkpoint that is being loaded, for messages.
    _loaded_file: str = 'the checkpoint'

    def __init__(self, *args, **kwargs) -> None:
        self._checked_sources: set[CocoSource] = set()
        self._is_resuming = False  # whether the file being loaded is resumed
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Start the process group on CPUs, then set up mmengine's environment."""
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            # mmengine does not start a second process group.
            torch.distributed.init_process_group(backend='gloo')
        super().setup_env(env_cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build mmengine's logger, and make it quiet on the console."""
        logger = super().build_logger(*args, **kwargs)
        quiet_console(logger)
        if logger.log_file is not None:
            logger.info(f'Environment, config and the whole log: {logger.log_file}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model, and make it as fast as the config asks for."""
        model = super().build_model(model)
        accelerate(model, self.cfg, self.logger, get_device())
        return model

    def _maybe_compile(self, target: str) -> None:
        """Do nothing: mmengine compiles the whole step, but losses do not compile."""

    @staticmethod
    def build_dataloader(*args, **kwargs) -> DataLoader:
        """Build a data loader; its data set has one metainfo, also if it has parts."""
        dataloader = MMEngineRunner.build_dataloader(*args, **kwargs)
        unite_metainfo(dataloader.dataset)
        return dataloader

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, check its data, and seed its batches if a hook is there."""
        if isinstance(loop, BaseLoop):
            return loop
        if any(isinstance(hook, IterationSeedHook) for hook in self.hooks):
            self._train_dataloader = with_seeded_batches(
                self._train_dataloader, self.seed
            )
        # One error lists the mistakes in both the training and the validation data.
        sources = self._sources('train') + self._sources('val')
        with self._checked_loading(sources):
            loop = super().build_train_loop(loop)
        name_image_errors(loop.dataloader.dataset)
        if isinstance(loop, EpochBasedTrainLoop):  # iterations may draw without end
            _check_has_batches(loop.dataloader)
        return loop

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, check its data, and keep its detections."""
        return self._build_evaluation('val', super().build_val_loop, loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the loop, check its data, and keep its detections."""
        loop = self._build_evaluation('test', super().build_test_loop, loop)
        model = getattr(self.model, 'module', self.model)  # of a tiled model
        if isinstance(model, ExportedModel):
            self._check_exported(model, loop)
        return loop

    def dump_config(self) -> None:
        """Write the config into the work directory, unless a training did.

        The options of a test, such as another threshold or an exported file, are not
        those of the training, whose config tests and later trainings read.
        """
        file = Path(self.work_dir, Path(self.cfg.filename or '').name)
        if not (file.is_file() and has_checkpoints(self.work_dir)):
            super().dump_config()

    def train(self) -> nn.Module:
        """Train the model; the work directory's config is that of this run."""
        given = self.cfg
        if given.get('resume'):  # which is not what another run of the config does
            self.cfg = copy.deepcopy(given)
            self.cfg.resume, self.cfg.load_from = False, self.start_from
        super().dump_config()
        self.cfg = given
        return super().train()

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """Scale the learning rate by the images of a step of the optimizer."""
        counts = getattr(optim_wrapper, '_accumulative_counts', 1)
        if auto_scale_lr and auto_scale_lr.get('enable') and counts > 1:
            base = auto_scale_lr['base_batch_size']
            self.logger.info(
                f'Gradients of {counts} iterations make a step: the batch size of '
                f'{base} is one of {base / counts:g} an iteration.'
            )
            auto_scale_lr = dict(auto_scale_lr, base_batch_size=base / counts)
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def test(self) -> dict[str, float]:
        """Test the model, whose weights stay until the end."""
        freeze_weights(self.model)
        try:
            return super().test()
        finally:
            unfreeze_weights(self.model)

    def _check_exported(self, model: ExportedModel, loop: BaseLoop) -> None:
        """Compare an exported file with the data set and the config."""
        self._loaded_file = str(model.file)
        metainfo = getattr(loop.dataloader.dataset, 'metainfo', None) or {}
        if metainfo.get('classes'):
            model.check_classes(metainfo['classes'])
        other = model.describe_other_settings(self.cfg)
        if other is not None:
            self.logger.warning(other)
        self._warn_of_other_classes(
            dict(meta=dict(dataset_meta=model.dataset_meta)), loop
        )

    def _build_evaluation(
        self, split: str, build: Callable, loop: BaseLoop | dict
    ) -> BaseLoop:
        evaluator = self._complete_evaluator(split)
        setattr(self, f'_{split}_evaluator', evaluator)
        with self._checked_loading(self._sources(split)):
            loop = build(loop)
        # The images must be readable, and the evaluator must know them.
        dataset = loop.dataloader.dataset
        name_image_errors(dataset)
        metrics = coco_metrics(evaluator, self._dataset(split))
        ann_files = [str(metric.get('ann_file')) for metric, _ in metrics]
        check_evaluator(
            loop.evaluator, dataset, ann_files, f'{split}_evaluator', self.logger
        )
        return loop

    def _complete_evaluator(self, split: str):
        """Return a copy of an evaluator's config with all file names.

        COCO metrics read the data set's file and write their detections to
        {split}_detections, {split}_detections_2, ...
        """
        evaluator = getattr(self, f'_{split}_evaluator')
        if not isinstance(evaluator, dict | list):
            return evaluator
        evaluator = copy_evaluator(evaluator)
        dataset = self._dataset(split)
        name_ann_files(evaluator, dataset, f'{split}_evaluator')
        metrics = [metric for metric, _ in coco_metrics(evaluator, dataset)]
        names = unique_names([f'{split}_detections'] * len(metrics))
        for metric, own_name in zip(metrics, names, strict=True):
            if metric.get('outfile_prefix') is None:
                metric['outfile_prefix'] = str(Path(self._log_dir) / own_name)
        return evaluator

    def _dataset(self, split: str) -> ConfigDict | None:
        """Return the config of a split's data set, if there is one."""
        dataloader = self.cfg.get(f'{split}_dataloader')
        return dataloader.get('dataset') if dataloader else None

    def _sources(self, split: str) -> list[CocoSource]:
        dataset = self._dataset(split)
        if split == 'train':
            return coco_sources(dataset)
        return sources_to_evaluate(self._complete_evaluator(split), dataset)

    def _checked_loading(self, sources: list[CocoSource]) -> AbstractContextManager:
        return checked_loading(sources, self.model, self.logger, self._checked_sources)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training; on CPUs without device ids."""
        on_cpus = self.distributed and not torch.cuda.is_available()
        if not on_cpus or is_model_wrapper(model) or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register the default hooks; None removes any of them, not only mmengine's."""
        given = hooks or {}
        super().register_default_hooks(
            {
                name: hook
                for name, hook in given.items()
                if hook is not None or name in _MMENGINE_HOOKS
            }
        )

    def register_hooks(self, *args, **kwargs) -> None:
        """Register the config's hooks, and those that every run has."""
        super().register_hooks(*args, **kwargs)
        for kind in _HOOKS:
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook):
                check_arguments(hook, self.save_checkpoint)

    def load_or_resume(self) -> None:
        """Load or resume; the latest checkpoint is found in this work directory."""
        if not self._has_loaded and self._resume and self._load_from is None:
            own = checkpoint_dir(self.hooks, self.work_dir)
            self._load_from = latest_checkpoint(self.work_dir, own)
            if self._load_from is None:
                self._resume, self._load_from = False, self.start_from
                self.logger.info(
                    f'There is no checkpoint in {self.work_dir} to resume: training '
                    'starts from the beginning'
                )
        super().load_or_resume()

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Resume from a checkpoint of this model, wherever the run stands now.

        Raises:
            UserError: The checkpoint is not of a training of this model.
        """
        own = checkpoint_dir(self.hooks, self.work_dir)
        self._is_resuming = True
        try:
            super().resume(filename, *args, **kwargs)
        finally:
            self._is_resuming = False
        move_noted_checkpoints(self.message_hub, own or self.work_dir)

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Load a checkpoint, which must fit the model in a test or a resumed run.

        Raises:
            UserError: The checkpoint does not fit.
        """
        self._loaded_file = filename
        return super().load_checkpoint(filename, *args, **kwargs)

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """Call the hooks; a loaded checkpoint is checked before any hook sees it."""
        if fn_name == 'after_load_checkpoint':
            self._check_checkpoint(kwargs['checkpoint'])
        super().call_hook(fn_name, **kwargs)

    def _check_checkpoint(self, checkpoint: dict) -> None:
        if not self._is_resuming:
            if not isinstance(self._train_loop, BaseLoop):
                check_fits(self.model, checkpoint, self._loaded_file)
                loops = (self._test_loop, self._val_loop)
                loop = next((x for x in loops if isinstance(x, BaseLoop)), None)
                self._warn_of_other_classes(checkpoint, loop)
                return
            fits, *rest = keep_what_fits(self.model, checkpoint, self._loaded_file)
            self.logger.info(fits)
            for line in rest:
                self.logger.warning(line)
            return
        metainfo = getattr(self.train_dataloader.dataset, 'metainfo', None) or {}
        classes = metainfo.get('classes')
        check_can_be_resumed(self.model, checkpoint, self._loaded_file, classes)
        has_ema = any(isinstance(hook, EMAHook) for hook in self.hooks)
        if 'ema_state_dict' in checkpoint and not has_ema:
            raise UserError(
                f'{self._loaded_file} is of a training with an EMAHook, and this run '
                'has none, so that it would go on from averaged weights: add --ema, '
                f'or start a new run with --weights {self._loaded_file}'
            )
        if 'optimizer' not in checkpoint:
            self.logger.warning(
                f'{self._loaded_file} has no state of the optimizer: the optimizer '
                'starts afresh, and the learning rate may too'
            )
        other = describe_other_settings(
            checkpoint, self.optim_wrapper, self.param_schedulers, self._loaded_file
        )
        changed = describe_changed_settings(checkpoint, self.cfg, self._loaded_file)
        for text in filter(None, (other, changed)):
            self.logger.warning(text)
        if self._warn_of_other_classes(checkpoint, self._train_loop):
            # Keeps mmengine from warning of the same.
            checkpoint['meta']['dataset_meta'] = metainfo

    def _warn_of_other_classes(self, checkpoint: dict, loop: BaseLoop | None) -> bool:
        """Warn if a checkpoint's classes differ from a data set's; say whether."""
        dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
        classes = (getattr(dataset, 'metainfo', None) or {}).get('classes')
        if not classes:
            return False
        known = meta_of(checkpoint)
        text = describe_other_classes(self._loaded_file, known, tuple(classes))
        if text is not None:
            self.logger.warning(text)
        return text is not None


def _check_has_batches(dataloader: DataLoader) -> None:
    """Raise UserError if an epoch would have no batch."""
    if len(dataloader) == 0:
        size = dataloader.batch_size or dataloader.batch_sampler.batch_size
        raise UserError(
            f'the {len(dataloader.dataset)} training images make no batch of {size}, '
            'as train_dataloader.drop_last leaves the last one out: lower '
            'train_dataloader.batch_size, or set drop_last=False'
        )
