"""mmengine's Runner, with a readable console and distributed runs on CPUs."""

import copy
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from mmengine.dist import is_distributed
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import BaseLoop
from mmengine.runner import Runner as MMEngineRunner
from torch import nn

from focal_retinanet.engine.acceleration import accelerate
from focal_retinanet.engine.check_data import CocoSource, checked_loading
from focal_retinanet.engine.console import quiet_console
from focal_retinanet.engine.file_names import unique_names
from focal_retinanet.engine.iteration_seed_hook import IterationSeedHook
from focal_retinanet.engine.metric_configs import metric_configs
from focal_retinanet.engine.seeded_batches import with_seeded_batches


class Runner(MMEngineRunner):
    """As mmengine's, but

    - the console shows progress and results; environment, config and
      initialisation stay in the log file;
    - annotation files are checked as they are loaded, before the first iteration;
    - batches have their seeds with them where ``IterationSeedHook`` is a hook;
    - detections of the last validation and of a test are kept next to the log,
      for ``tools/compare.py``;
    - ``channels_last``, ``fold_batch_norm``, ``winograd`` and ``compile`` make
      the model faster, see :mod:`focal_retinanet.engine.acceleration`;
    - ``launcher='pytorch'`` works on a machine without CUDA, over gloo, where
      mmengine's own ``init_dist`` asks for a GPU.
    """

    #: Annotation files that were checked, with the images and classes.
    _checked_sources: set[CocoSource]

    def __init__(self, *args, **kwargs) -> None:
        self._checked_sources = set()
        super().__init__(*args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Start the process group, then mmengine's environment."""
        if self.distributed and not torch.cuda.is_available() and not is_distributed():
            # mmengine leaves a process group that exists alone.
            torch.distributed.init_process_group(backend='gloo')
        super().setup_env(env_cfg)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """mmengine's logger, quieter on the console."""
        logger = super().build_logger(*args, **kwargs)
        quiet_console(logger)
        if logger.log_file is not None:
            logger.info(f'Environment, config and the whole log: {logger.log_file}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """The model, made as fast as the config asks for."""
        model = super().build_model(model)
        accelerate(model, self.cfg, self.logger)
        return model

    def _maybe_compile(self, target: str) -> None:
        """Not mmengine's: the whole step, of which the losses do not compile."""

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The loop, whose data are checked, and seeded if there is a hook for it."""
        if isinstance(loop, BaseLoop):
            return loop
        if any(isinstance(hook, IterationSeedHook) for hook in self.hooks):
            self._train_dataloader = with_seeded_batches(
                self._train_dataloader, self.seed
            )
        # An error of these data is raised together with those of the validation's.
        with self._checked_loading('train_dataloader', 'val_dataloader'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The loop, whose data are checked and whose detections are kept."""
        self._val_evaluator = self._keep_detections(
            self._val_evaluator, 'val_detections'
        )
        with self._checked_loading('val_dataloader'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The loop, whose data are checked and whose detections are kept."""
        self._test_evaluator = self._keep_detections(
            self._test_evaluator, 'test_detections'
        )
        with self._checked_loading('test_dataloader'):
            return super().build_test_loop(loop)

    def _keep_detections(self, evaluator, name: str):
        """A copy of an evaluator's config; COCO metrics write detections to NAME,
        NAME_2, ..."""
        if not isinstance(evaluator, dict | list):
            return evaluator
        evaluator = copy.deepcopy(evaluator)
        of_coco = [
            metric
            for metric in metric_configs(evaluator)
            if str(metric.get('type')).rpartition('.')[2] == 'CocoMetric'
        ]
        names = unique_names([name] * len(of_coco))
        for metric, own_name in zip(of_coco, names, strict=True):
            if metric.get('outfile_prefix') is None:
                metric['outfile_prefix'] = str(Path(self._log_dir) / own_name)
        return evaluator

    def _checked_loading(self, *dataloaders: str) -> AbstractContextManager:
        configs = [self.cfg.get(key) for key in dataloaders]
        return checked_loading(configs, self.model, self.logger, self._checked_sources)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap for distributed training; on CPUs without device ids."""
        on_cpus = self.distributed and not torch.cuda.is_available()
        if not on_cpus or is_model_wrapper(model) or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model,
            broadcast_buffers=False,
            find_unused_parameters=self.cfg.get('find_unused_parameters', False),
        )
