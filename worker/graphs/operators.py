"""The operators that a graph may hold. No torch: the service's side of the sandbox checks against this list too.

All are functions of their arguments that draw no random numbers but for dropout, read no memory that was not written,
need no value of a tensor to tell the size of another, and run no other code. So there are none that are custom or of
higher order, none that make uninitialised, random or strided tensors, and none that resize or replace storage.
"""

LINEAR = (
    "linear.default matmul.default mm.default bmm.default addmm.default baddbmm.default mv.default dot.default "
    "einsum.default embedding.default conv1d.default conv1d.padding conv2d.default conv2d.padding conv3d.default "
    "conv3d.padding convolution.default conv_transpose1d.default conv_transpose2d.input conv_transpose3d.input "
    "lstm.input gru.input rnn_tanh.input rnn_relu.input scaled_dot_product_attention.default"
)
NORMS = (
    "batch_norm.default _native_batch_norm_legit_no_training.default instance_norm.default "
    "layer_norm.default native_layer_norm.default group_norm.default native_group_norm.default rms_norm.default "
    "linalg_vector_norm.default norm.ScalarOpt_dim"
)
DROPOUT = (
    "dropout.default dropout_.default feature_dropout.default feature_dropout_.default alpha_dropout.default "
    "alpha_dropout_.default feature_alpha_dropout.default feature_alpha_dropout_.default"
)
ACTIVATIONS = (
    "relu.default relu_.default relu6.default relu6_.default leaky_relu.default leaky_relu_.default elu.default "
    "elu_.default selu.default selu_.default celu.default celu_.default gelu.default gelu_.default silu.default "
    "silu_.default mish.default mish_.default hardtanh.default hardtanh_.default hardswish.default hardswish_.default "
    "hardsigmoid.default hardsigmoid_.default prelu.default softplus.default sigmoid.default "
    "sigmoid_.default tanh.default tanh_.default log_sigmoid.default glu.default threshold.default threshold_.default "
    "softmax.int _softmax.default log_softmax.int _log_softmax.default logsumexp.default softshrink.default  "
    "hardshrink.default"
)
POOLS = (
    "max_pool1d.default max_pool2d.default max_pool3d.default max_pool2d_with_indices.default avg_pool1d.default "
    "avg_pool2d.default avg_pool3d.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default "
    "adaptive_avg_pool3d.default _adaptive_avg_pool2d.default adaptive_max_pool1d.default adaptive_max_pool2d.default "
    "constant_pad_nd.default pad.default reflection_pad1d.default reflection_pad2d.default "
    "replication_pad1d.default replication_pad2d.default upsample_nearest1d.vec upsample_nearest2d.vec "
    "upsample_bilinear2d.vec upsample_bicubic2d.vec upsample_linear1d.vec upsample_nearest2d.default "
    "upsample_bilinear2d.default pixel_shuffle.default pixel_unshuffle.default channel_shuffle.default im2col.default"
)
ARITHMETIC = (
    "add.Tensor add.Scalar add_.Tensor add_.Scalar sub.Tensor sub.Scalar sub_.Tensor sub_.Scalar rsub.Tensor "
    "rsub.Scalar mul.Tensor mul.Scalar mul_.Tensor mul_.Scalar div.Tensor div.Scalar div_.Tensor div_.Scalar "
    "div.Tensor_mode div.Scalar_mode floor_divide.default remainder.Tensor remainder.Scalar pow.Tensor_Scalar "
    "pow.Tensor_Tensor pow.Scalar square.default sqrt.default rsqrt.default reciprocal.default exp.default "
    "expm1.default log.default log1p.default log2.default abs.default neg.default sign.default floor.default "
    "ceil.default round.default trunc.default sin.default cos.default tan.default atan.default erf.default "
    "clamp.default clamp_.default clamp_min.default clamp_max.default clamp.Tensor maximum.default minimum.default "
    "lerp.Scalar lerp.Tensor addcmul.default addcdiv.default"
)
LOGIC = (
    "eq.Tensor eq.Scalar ne.Tensor ne.Scalar lt.Tensor lt.Scalar le.Tensor le.Scalar gt.Tensor gt.Scalar ge.Tensor "
    "ge.Scalar logical_and.default logical_or.default logical_not.default bitwise_and.Tensor bitwise_or.Tensor "
    "bitwise_not.default where.self where.ScalarOther where.ScalarSelf where.Scalar masked_fill.Scalar "
    "masked_fill_.Scalar masked_fill.Tensor isnan.default isinf.default"
)
REDUCTIONS = (
    "sum.default sum.dim_IntList mean.default mean.dim var.dim var.correction std.dim std.correction "
    "var_mean.correction prod.dim_int max.default max.dim min.default min.dim amax.default amin.default argmax.default "
    "argmin.default any.dim all.dim cumsum.default topk.default sort.default norm.Scalar"
)
SHAPES = (
    "view.default _unsafe_view.default reshape.default flatten.using_ints unflatten.int squeeze.default squeeze.dim "
    "squeeze.dims unsqueeze.default transpose.int permute.default t.default movedim.int movedim.intlist "
    "swapaxes.default numpy_T.default mT.default expand.default expand_as.default view_as.default repeat.default "
    "repeat_interleave.self_int broadcast_to.default tile.default contiguous.default clone.default detach.default "
    "alias.default cat.default concat.default stack.default hstack.default chunk.default split.Tensor split.sizes "
    "split_with_sizes.default unbind.int narrow.default select.int slice.Tensor index.Tensor index_select.default "
    "gather.default take_along_dim.default flip.default roll.default tril.default triu.default diagonal.default "
    "unfold.default meshgrid.default meshgrid.indexing select_scatter.default slice_scatter.default copy.default "
    "copy_.default fill.Scalar fill_.Scalar zero_.default scatter.src scatter.value rot90.default"
)
TENSORS = (
    "zeros.default ones.default full.default arange.default arange.start arange.start_step linspace.default "
    "eye.default scalar_tensor.default zeros_like.default ones_like.default full_like.default new_zeros.default "
    "new_ones.default new_full.default lift_fresh_copy.default one_hot.default"
)
CONVERSIONS = "to.dtype to.dtype_layout to.other type_as.default _to_copy.default sym_size.int sym_numel.default"
_ATEN = (
    LINEAR, NORMS, DROPOUT, ACTIVATIONS, POOLS, ARITHMETIC, LOGIC, REDUCTIONS, SHAPES, TENSORS, CONVERSIONS,
)  # fmt: skip

ARITHMETIC_OF_SIZES = frozenset(
    f"_operator.{name}" for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
) | {"torch.sym_max", "torch.sym_min"}
"""Functions of Python's numbers, which sizes are."""

OPERATORS = frozenset(f"aten.{name}" for names in _ATEN for name in names.split()) | ARITHMETIC_OF_SIZES

NORMS_WITH_STATISTICS = frozenset(
    f"aten.{name}.default" for name in ("batch_norm", "instance_norm", "_native_batch_norm_legit_no_training")
)
"""Norms that may keep running means and variances."""

SWITCHES = {
    "aten.batch_norm.default": "training",
    "aten.instance_norm.default": "use_input_stats",
    "aten.scaled_dot_product_attention.default": "dropout_p",
    **{f"aten.{name}": "train" for name in DROPOUT.split()},
    **{f"aten.{name}.input": "train" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
"""The argument of an operator that tells training from evaluation: a flag, or a probability that evaluation has not."""
