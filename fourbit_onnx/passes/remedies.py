"""What to write instead of an operator that cannot be trained."""

# Every operator named on the right can be trained.
REMEDIES = {
    "ConvTranspose": "export it with a known size of the image, with pads, without auto_pad and dilations",
    "DepthToSpace": "export it with a known size of the image",
    "SpaceToDepth": "export it with a known size of the image",
    "Einsum": "write it with two operands, without ..., or with Transpose, Reshape and MatMul",
    "GlobalMaxPool": "use MaxPool with a kernel of the whole image",
    "InstanceNormalization": "export it with an input of known rank",
    "If": "export the branch that is trained",
    "Loop": "unroll it: export with a fixed number of steps",
    "SplitToSequence": "export with dynamo=False, or write split() as slices or unbind()",
    "SequenceAt": "export with dynamo=False, or write split() as slices or unbind()",
    "Pad": "export it with a known size of what is padded, or pad with a constant, and without axes",
    "ScatterElements": "use it without a reduction, or with addition",
    "ScatterND": "use it without a reduction, or with addition",
    "Slice": "export it with a known size of what is turned",
    "Scan": "unroll it: export with a fixed number of steps",
    "Mean": "use Add and Mul",
    "Sum": "use Add",
    "Pow": "where the exponent is trained, write Exp of the exponent times Log of the base",
    "ReduceL2": "give it its axes, or leave it out where it reduces none",
    "ReduceL1": "use Abs and ReduceSum",
    "ReduceSumSquare": "use Mul and ReduceSum",
    "ReduceLogSum": "use ReduceSum and Log",
    "Resize": "export it with a known size of the image and constant scales",
    "Upsample": "for whole factors, repeat the pixels (Expand, Reshape)",
    "AveragePool": "export it without ceil_mode and with a known number of channels; of three dimensions, "
    "write it with Reshape and ReduceMean",
    "CumSum": "use MatMul with a constant triangle of ones",
    "RandomNormal": "give the random numbers as an input of the model",
    "RandomNormalLike": "give the random numbers as an input of the model",
    "RandomUniform": "give the random numbers as an input of the model",
    "RandomUniformLike": "give the random numbers as an input of the model",
}
OTHERWISE = "replace it in the model, or freeze the weights before it with --freeze"
