"""The authors' TensorFlow checkpoints of TNet, read into ours.

Their files are object checkpoints keyed by variable names: the key is the name with every `/`
replaced by `.S`, followed by `/.ATTRIBUTES/VARIABLE_VALUE`.
"""

import re

from tnet_keras.backbones import Backbone
from tnet_keras.geometry import RegionGrid
from tnet_keras.interop.checkpoint import check_fits, fill, match, open_checkpoint, read_values
from tnet_keras.layers import ContextLocationModule, FeatureWeighting
from tnet_keras.models import TNet

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
# Step counters, the optimiser and the object graph: not variables of the model.
_BOOKKEEPING = re.compile(
    r"^(iter|save_counter|optimizer(_2)?/.*|_CHECKPOINTABLE_OBJECT_GRAPH)(/\.ATTRIBUTES/.*)?$"
    r"|/\.OPTIMIZER_SLOT/"
)
# Width and depth of the tags `EfficientNetB<i>_origWD`.
_ORIGINAL_WIDTH_DEPTH = {
    "B0": (1.0, 1.0), "B1": (1.0, 1.1), "B2": (1.1, 1.2), "B3": (1.2, 1.4), "B4": (1.4, 1.8),
    "B5": (1.6, 2.2), "B6": (1.8, 2.6), "B7": (2.0, 3.1),
}  # fmt: skip
# All flags of the original's training scripts; most of them say nothing about the model.
_FLAGS = frozenset(
    """
    activation adv_eval_data base_res_x base_res_y batch_norm batch_size batches_to_profile_range
    batches_to_time_range block_drop_rate ckpt_dir ckpt_frequency ckpt_sparse_num ckpt_to_restore
    contrastive_loss contrastive_margin cub_classes_file_dir data_dir depth_coefficient
    depth_divisor descr_tag dictionary_to_restore_from dont_save_eval_txt dropout_rate
    eval_epochs_num feat_weighting gpus_type image_ids_struct_path imagenet_metadata_file img_size_x
    img_size_y initial_lr initial_lr2 keep_activations_summary keep_grads_summary keep_prob
    keep_weights_summary l2_reg l_contrastive labels_file loc_per_grid log_frequency
    lr_decay_factor lr_scedule_1step lr_scedule_2step ls_dim multi_factor num_classes num_do_layers
    num_epochs num_gpus num_patches_x num_patches_y num_res_levels num_samples overlap
    perFReg_cap perFReg_ce_weight perFReg_reinf_weight pos_dim_divisor profile_evaluation
    profile_step reinfornce_reg_w restore_dir resume_training save_tag summaries_dir
    summary_frequency to_evaluate_test to_evaluate_train to_evaluate_val to_train two_oprimizers
    vars_to_exclude vars_to_update width_coefficient
    """.split()
)
# Which positions of the map the original keeps, hard-coded there for its input sizes.
BAGNET_INDICES = (0, 2, 4, 6, 8)
FMOW_3X3_INDICES = (2, 6, 10)
FMOW_5X5_INDICES = (3, 8, 13, 18, 23)
BIRDS_B0_INDICES = (2, 4, 6, 8, 10)
BIRDS_INDICES = (5, 9, 13, 17, 21)


def original_model(config):
    """Builds the `TNet` that the original's command-line flags describe.

    Args:
        config: dict of the original's flags under their original spelling, or a dict that holds
            them under "original_flags".

    Returns:
        An unloaded `TNet` with the released rule: deterministic top-k, unit-norm logits, plain sums
        of log-probabilities, one set of batch-norm statistics for all levels.

    Raises:
        ValueError: If a flag is missing, unknown or describes something that is not a TNet.
    """
    flags = dict(config.get("original_flags", config))
    unknown = sorted(map(str, set(flags) - _FLAGS))
    if unknown:  # a misspelt flag would silently leave its default
        raise ValueError(
            "`config` must hold flags of the original only, in its own spelling. "
            f"Received: {', '.join(unknown)}"
        )

    def get(name, default=None):
        value = flags.get(name, default)
        if value is None:
            raise ValueError(
                f"`config` must hold the original's flag {name!r}. Received: {sorted(flags)}"
            )
        return value

    tag = str(get("descr_tag"))
    levels = int(get("num_res_levels", 1))
    base = (int(get("base_res_y", 32)), int(get("base_res_x", 32)), 3)
    width = int(get("ls_dim", 512 if "BagNet_77" in tag else 1280))
    cap = int(get("perFReg_cap", -1))
    shared = dict(
        num_classes=int(get("num_classes")),
        grid=RegionGrid(
            int(get("num_patches_y", 3)), int(get("num_patches_x", 3)), float(get("overlap", 0.5))
        ),
        image_size=(int(get("img_size_y", 224)), int(get("img_size_x", 224))),
        locations=tuple(round(float(k)) for k in get("loc_per_grid", (3.0,)))[: levels - 1],
        levels=levels,
        unit_norm=True,
        selection="top_k",
        rule="original",
        log_prob="independent",
        lambda_f=float(get("reinfornce_reg_w", 0.0)),
        lambda_c=float(get("perFReg_ce_weight", 0.5)),
        lambda_r=float(get("perFReg_reinf_weight", 0.5)),
        level_cap=None if cap < 0 else cap,
        num_samples=int(get("num_samples", 1)),
        l2=float(get("l2_reg", 0.0)),
        l2_scope="new_modules" if flags.get("two_oprimizers") else "all",
        contrastive_weight=(
            float(get("l_contrastive", 0.0)) if flags.get("contrastive_loss") else 0.0
        ),
        contrastive_margin=float(flags.get("contrastive_margin") or 0.0),
        aggregation="weighted" if flags.get("feat_weighting") else "mean",
    )
    if "BagNet_77" in tag:
        backbone = Backbone(
            "bagnet77",
            input_shape=base,
            input_scaling="symmetric",
            options={
                "multi_factor": int(get("multi_factor", 4)),
                "feature_dim": width,
                "keep_prob": float(get("keep_prob", 1.0)),
                "num_dropout_layers": int(get("num_do_layers", 0)),
            },
        )
        return TNet(
            backbone,
            location_module="context",
            positional="concat",
            position_dim=width,
            map_indices=BAGNET_INDICES,
            classifier_initializer="glorot_normal",
            **shared,
        )
    if "EfficientNet" not in tag:
        raise ValueError(
            "`config` must describe a BagNet_77 or an EfficientNet by its `descr_tag`. "
            f"Received: descr_tag={tag!r}"
        )
    if not flags.get("batch_norm"):
        raise ValueError(
            "`config` must have `batch_norm` on: EfficientNet without it has no published run. "
            f"Received: batch_norm={flags.get('batch_norm')!r}"
        )
    tap, indices, (width_coefficient, depth_coefficient) = _efficientnet_variant(tag, get)
    backbone = Backbone(
        "efficientnet",
        input_shape=base,
        input_scaling="symmetric",
        options={
            "width_coefficient": width_coefficient,
            "depth_coefficient": depth_coefficient,
            "depth_divisor": int(get("depth_divisor", 8)),
            "activation": str(get("activation", "swish")),
            "drop_connect_rate": float(get("block_drop_rate", 0.2)),
            **tap,
        },
    )
    return TNet(
        backbone,
        location_module="squeeze_excite",
        positional="add",
        position_dim=backbone.feature_dim // int(get("pos_dim_divisor", 1)),
        map_indices=indices,
        dropout=float(get("dropout_rate", 0.2)),
        **shared,
    )


def _efficientnet_variant(tag, get):
    """Where the map is taken, which positions of it, and (width, depth)."""
    scale = (float(get("width_coefficient", 1.0)), float(get("depth_coefficient", 1.0)))
    bird = re.search(r"EfficientNet(B[0-7])", tag)
    if bird:
        if "origWD" in tag:
            scale = _ORIGINAL_WIDTH_DEPTH[bird[1]]
        if bird[1] == "B0":
            return {"map_tap": "cub"}, BIRDS_B0_INDICES, scale
        block = "3a" if bird[1] in ("B6", "B7") else "3b"
        end = "project_bn" if block == "3a" else "add"
        return {"map_layer": f"block{block}_{end}"}, BIRDS_INDICES, scale
    if "lg5x5" in tag:
        return {"map_tap": "fmow_5x5"}, FMOW_5X5_INDICES, scale
    return {"map_tap": "fmow_3x3"}, FMOW_3X3_INDICES, scale


def original_variables(model):
    """The original's variable names and the variables of ours that carry them.

    Args:
        model: A `TNet` with a BagNet-77 or EfficientNet backbone.

    Returns:
        dict from name to list of Keras variables; more than one where batch-norm statistics are
        kept per level (each level starts from the original's one set).
    """
    names = {}

    def add(prefix, layer, **rename):
        for variable in layer.weights:  # without the seeds of dropout
            own = re.sub(r"_level\d+$", "", variable.name)
            names.setdefault(f"{prefix}/{rename.get(own, own)}", []).append(variable)

    for layer in model.backbone.network.layers:
        if layer.weights:
            prefix, rename = _backbone_name(layer.name)
            add(f"feature_extraction/{prefix}", layer, **rename)
    add("feature_posBurn/linear", model.positional.dense)
    module = model.location_module
    if isinstance(module, ContextLocationModule):
        root = "location_prediction_earlyLocs"
        parts = {"conv2d": module.hidden_conv}
    else:
        root = "location_prediction"
        parts = {
            "init/conv2d": module.first_conv,
            "se/conv2d_1": module.squeeze,
            "se/conv2d_2": module.excite,
            "final/conv2d": module.final_conv,
        }
    parts |= {
        "height_scaling": module.row_affine,
        "width_scaling": module.col_affine,
        "output_linear": module.output_conv,
    }
    for name, layer in parts.items():
        add(f"{root}/{name}", layer)
    if isinstance(model.aggregation, FeatureWeighting):
        add("feat_weighting/se/dense_1", model.aggregation.squeeze)
        add("feat_weighting/se/dense_2", model.aggregation.excite)
        add("feat_weighting/output_linear", model.aggregation.output_dense)
    add("feature_extraction/logits_layer/linear", model.classifier.dense)
    names["baseline_var"] = [model.baseline]
    return names


def _backbone_name(layer_name):
    """Our layer's name → (the original's prefix, renamed variables)."""
    found = re.fullmatch(r"block(\d)([a-z])_(\w+)", layer_name)
    if found:
        part, block = int(found[1]) + 1, ord(found[2]) - ord("a") + 1
        where, rename = {
            "expand_conv": ("expand/conv2d", {}),
            "expand_bn": ("expand/batch_norm", {}),
            "dwconv": ("depthwise/conv2d", {"kernel": "depthwise_kernel"}),
            "bn": ("depthwise/batch_norm", {}),
            "se_reduce": ("se/conv2d_1", {}),
            "se_expand": ("se/conv2d_2", {}),
            "project_conv": ("bottleneck/conv2d", {}),
            "project_bn": ("bottleneck/batch_norm", {}),
        }[found[3]]
        return f"part{part}_block{block}/{where}", rename
    found = re.fullmatch(r"(stem|top)_(conv|bn)", layer_name)
    if found:
        return f"{found[1]}/{'conv2d' if found[2] == 'conv' else 'batch_norm'}", {}
    found = re.fullmatch(r"(part\d_block\d)_(comp_\d|shortcut)", layer_name)
    if found:
        comp = "shortcut_comp" if found[2] == "shortcut" else found[2]
        return f"{found[1]}/{comp}/conv2d", {}
    return f"{layer_name}/conv2d", {}


def load_original_checkpoint(model, path, strict=True):
    """Fills a `TNet` from a checkpoint of the original.

    Nothing is assigned unless the whole checkpoint was read, and with `strict` unless everything
    fits.

    Args:
        model: A `TNet`, e.g. from `original_model`.
        path: Checkpoint prefix (".../ckpt-0"), its ".index" file, or a folder (its latest one).
        strict: Whether a variable of ours without a value, or a value without a variable, is an
            error.

    Returns:
        `LoadReport`.

    Raises:
        ValueError: If there is no checkpoint or it cannot be read, or with `strict` something is
            missing or unused.
    """
    reader = open_checkpoint(path)
    stored = {
        key.removesuffix(_SUFFIX).replace(".S", "/"): key
        for key in reader.get_variable_to_shape_map()
        if not _BOOKKEEPING.search(key)
    }
    wanted = original_variables(model)
    shapes = reader.get_variable_to_shape_map()
    report = match(wanted, {name: shapes[key] for name, key in stored.items()})
    if strict:
        check_fits(report, path)
    values = read_values(reader, [stored[name] for name in report.matched], path)
    fill(wanted, {name: values[stored[name]] for name in report.matched})
    return report
