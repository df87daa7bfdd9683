"""The canonical columns themselves: kind, unit, plausible range, aliases, the value that means off.

Names agree with the knobs of foretune's own trainer where it has them. Units are written out; a
share is between 0 and 1. `low` and `high` bound what is plausible, ends included: a "learning rate"
of 30 is no learning rate. `off` is the value that means "not used". Aliases are in the spelling of
`foretune.history.vocabulary.normal`: lower case, words joined by `_`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["number", "integer", "category", "flag"]
INFINITE = math.inf


@dataclass(frozen=True)
class Column:
    """One canonical column.

    `aliases` map another tool's name to the factor that turns its values into `unit`; `switches`
    are flags of other tools that say whether the column is used at all (False: it is `off`).
    """

    name: str
    kind: Kind
    about: str
    aliases: Mapping[str, float] = field(default_factory=dict)
    unit: str = ""
    low: float = -INFINITE
    high: float = INFINITE
    log: bool = False
    off: Any = None
    switches: tuple[str, ...] = ()


def _column(
    name: str,
    kind: Kind,
    about: str,
    aliases: str = "",
    unit: str = "",
    range: tuple[float, float] = (-INFINITE, INFINITE),
    *,
    log: bool = False,
    off: Any = None,
    switches: str = "",
    scaled: Mapping[str, float] | None = None,
) -> Column:
    names = {name: 1.0, **dict.fromkeys(aliases.split(), 1.0), **(scaled or {})}
    return Column(name, kind, about, names, unit, *range, log, off, tuple(switches.split()))


SHARE = (0.0, 1.0)
COLUMNS: dict[str, Column] = {
    column.name: column
    for column in (
        # the network
        _column(
            "network",
            "category",
            "name of the network, as timm, torchvision or the hub writes it",
            "model arch architecture backbone model_name model_name_or_path net base_model "
            "timm_model encoder model_arch network_name",
        ),
        _column("network_family", "category", "its family (resnet, vit, ...)", "model_family"),
        _column(
            "parameters",
            "number",
            "weights of the network",
            "num_params n_params param_count total_parameters num_parameters n_parameters "
            "total_params num_trainable_params trainable_params",
            "count",
            (1e2, 1e12),
            log=True,
            scaled={"params_m": 1e6, "parameters_m": 1e6, "params_millions": 1e6},
        ),
        _column(
            "gmacs",
            "number",
            "multiply-adds of one image",
            "macs_g giga_macs",
            "10^9",
            (1e-5, 1e5),
            log=True,
            scaled={"macs": 1e-9},
        ),
        _column(
            "pretrained",
            "flag",
            "starts from pretrained weights",
            "use_pretrained pretrained_weights student_pretrained is_pretrained from_pretrained "
            "imagenet_weights",
        ),
        # the task's side
        _column(
            "image_size",
            "integer",
            "side of an image as the network sees it",
            "img_size imgsz input_size resolution image_resolution crop_size img_dim train_size_px "
            "input_resolution train_crop_size image_dim img_resolution imagesize",
            "px",
            (8, 4096),
            log=True,
        ),
        _column(
            "train_images",
            "integer",
            "images trained on",
            "n_train num_train train_limit training_samples num_train_samples train_samples "
            "n_train_images num_train_images max_train_samples",
            "count",
            (2, 1e10),
            log=True,
        ),
        _column(
            "num_classes",
            "integer",
            "classes",
            "n_classes classes nb_classes num_labels n_labels class_count",
            "count",
            (2, 1e6),
            log=True,
        ),
        # how long, how much at once
        _column(
            "epochs",
            "integer",
            "epochs planned",
            "num_epochs n_epochs num_train_epochs max_epochs training_epochs max_epoch "
            "total_epochs nb_epochs epoch_count train_epochs tuner_epochs nepochs base_epochs",
            "epochs",
            (1, 1e5),
            log=True,
        ),
        _column(
            "batch_size",
            "integer",
            "images in a step of one device",
            "bs batch train_batch_size per_device_train_batch_size batchsize mini_batch_size "
            "train_batch minibatch_size per_gpu_batch_size batch_size_train",
            "images",
            (1, 1e6),
            log=True,
        ),
        _column(
            "accumulation",
            "integer",
            "steps whose gradients are added up",
            "gradient_accumulation_steps accumulation_steps accumulate_grad_batches "
            "grad_accum_steps grad_accumulation accumulate",
            "steps",
            (1, 1e5),
            log=True,
            off=1,
        ),
        # the optimizer
        _column(
            "optimizer",
            "category",
            "name of the optimizer",
            "opt optim optimizer_name optimizer_type optim_name optimiser optimizer_class",
        ),
        _column(
            "learning_rate",
            "number",
            "the highest learning rate of the run",
            "lr lr0 base_lr init_lr initial_lr max_lr opt_lr learningrate initial_learning_rate "
            "learn_rate optim_lr optimizer_lr lr_init peak_lr lr_initial",
            "per step",
            (1e-9, 20.0),
            log=True,
        ),
        _column(
            "weight_decay",
            "number",
            "weight decay",
            "wd opt_wd weightdecay l2 l2_reg l2_regularization optim_weight_decay decay_weight "
            "optimizer_weight_decay",
            "per step",
            (0.0, 10.0),
            log=True,
            off=0.0,
        ),
        _column(
            "momentum",
            "number",
            "momentum of SGD and its kin",
            "sgd_momentum opt_momentum",
            "share",
            SHARE,
            off=0.0,
        ),
        _column("beta1", "number", "Adam's first beta", "adam_beta1 b1 beta_1", "share", SHARE),
        _column("beta2", "number", "Adam's second beta", "adam_beta2 b2 beta_2", "share", SHARE),
        _column(
            "epsilon",
            "number",
            "Adam's epsilon",
            "eps adam_epsilon opt_eps adam_eps",
            "",
            (0.0, 1.0),
            log=True,
        ),
        _column("nesterov", "flag", "Nesterov's momentum", "use_nesterov", off=False),
        # its schedule
        _column(
            "scheduler",
            "category",
            "how the learning rate falls",
            "sched lr_scheduler lr_scheduler_type lr_schedule scheduler_name lr_policy "
            "scheduler_type learning_rate_schedule lr_sched lr_scheduler_name",
        ),
        _column(
            "warmup_epochs",
            "number",
            "epochs in which the learning rate rises",
            "num_warmup_epochs warmup lr_warmup_epochs warm_up_epochs warmup_epoch",
            "epochs",
            (0, 1e4),
            off=0,
        ),
        _column(
            "warmup_share",
            "number",
            "share of the steps in which it rises",
            "warmup_ratio warmup_proportion warmup_fraction pct_start",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "min_learning_rate",
            "number",
            "the learning rate it falls to",
            "min_lr eta_min lr_min end_lr final_lr",
            "per step",
            (0.0, 20.0),
            log=True,
            off=0.0,
        ),
        _column(
            "decay_epochs",
            "number",
            "epochs between two drops",
            "lr_step_size step_size lr_decay_epochs",
            "epochs",
            (0, 1e5),
        ),
        _column(
            "decay_rate",
            "number",
            "factor of a drop",
            "gamma lr_gamma lr_decay_rate lr_decay lr_decay_factor",
            "share",
            SHARE,
        ),
        # regularization
        _column(
            "label_smoothing",
            "number",
            "share of a label that is spread over all classes",
            "smoothing label_smoothing_factor ls label_smooth",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "dropout",
            "number",
            "dropout before the classifier",
            "drop dropout_rate drop_rate p_dropout dropout_p dropout_prob",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "drop_path",
            "number",
            "stochastic depth",
            "drop_path_rate stochastic_depth stochastic_depth_prob droppath",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "clip_grad",
            "number",
            "largest norm of a gradient",
            "grad_clip clip_grad_norm max_grad_norm gradient_clip_val clipnorm global_clipnorm "
            "gradient_clip gradient_clipping max_norm clip_norm",
            "norm",
            (0.0, 1e6),
            log=True,
            off=0.0,
        ),
        _column(
            "ema",
            "number",
            "decay of the moving average of the weights",
            "ema_decay model_ema_decay",
            "share",
            SHARE,
            off=0.0,
            switches="model_ema use_ema",
        ),
        # augmentation
        _column(
            "mixup", "number", "alpha of mixup", "mixup_alpha mix_up", "alpha", (0, 100), off=0.0
        ),
        _column(
            "cutmix",
            "number",
            "alpha of CutMix",
            "cutmix_alpha cut_mix",
            "alpha",
            (0, 100),
            off=0.0,
        ),
        _column(
            "augmentation",
            "category",
            "policy of augmentation",
            "aug aa auto_augment autoaugment data_augmentation augment aug_policy "
            "augmentation_policy augmentations data_aug",
            off="none",
        ),
        _column(
            "randaugment",
            "number",
            "magnitude of RandAugment",
            "ra_magnitude randaug_magnitude rand_augment_magnitude randaugment_magnitude "
            "randaugment_m",
            "magnitude",
            (0, 31),
            off=0,
            switches="random_augment rand_augment use_randaugment",
        ),
        _column(
            "random_erasing",
            "number",
            "chance of a patch being erased",
            "reprob erasing random_erase random_erasing_prob random_erase_prob erase_prob",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "colour_jitter",
            "number",
            "strength of the colour jitter",
            "color_jitter jitter color_jitter_strength",
            "strength",
            (0, 10),
            off=0.0,
        ),
        _column(
            "flip",
            "number",
            "chance of a horizontal flip",
            "hflip fliplr horizontal_flip hflip_prob random_flip",
            "share",
            SHARE,
            off=0.0,
        ),
        # what is fine-tuned
        _column(
            "finetune",
            "category",
            "what is fine-tuned: head, last_blocks, most, all or a share",
            "finetune_depth fine_tune unfreeze tuning_mode fine_tuning finetuning",
        ),
        _column(
            "frozen_share",
            "number",
            "share of the layers that stays as pretrained",
            "pct_to_freeze freeze_share frozen_fraction freeze_ratio",
            "share",
            SHARE,
            off=0.0,
        ),
        _column(
            "frozen_layers",
            "number",
            "layers that stay as pretrained, counted from the input",
            "layers_to_freeze freeze_layers num_frozen_layers freeze n_frozen_layers",
            "layers",
            (0, 1e4),
            off=0,
        ),
        _column(
            "layer_decay",
            "number",
            "factor of the learning rate from a layer to the one below",
            "llrd layerwise_lr_decay layer_wise_lr_decay layerwise_decay",
            "share",
            SHARE,
            off=1.0,
        ),
        _column(
            "lora_rank", "integer", "rank of LoRA", "lora_r peft_rank", "rank", (0, 4096), off=0
        ),
        _column(
            "criterion",
            "category",
            "the loss that is minimised",
            "loss_function loss_fn loss_type loss_name objective_function",
        ),
        _column(
            "class_weights",
            "category",
            "how classes are weighed",
            "class_weight class_weight_mode class_weighting balanced",
            off="none",
        ),
        _column(
            "seed",
            "integer",
            "seed of the run",
            "random_seed random_state rng_seed manual_seed global_seed seed_everything",
            "",
            (-(2.0**63), 2.0**64),
        ),
    )
}
