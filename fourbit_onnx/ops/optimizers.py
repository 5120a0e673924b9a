"""Parameter updates as functions of standard operators."""

from fourbit_onnx.ops.text import function

# The update of PyTorch's SGD: g = factor * grad + decay * p;  m = momentum * m + g;
# p = p - rate * (m, or g + momentum * m). The factor is 1, or limits the norm of all gradients.
SGD_UPDATE = function("""
SgdUpdate <momentum : float = 0.9, nesterov : int = 0, weight_decay : float = 0.0>
    (p, gradient, factor, rate, m) => (new_p, new_m) {
    mu = Constant <value_float : float = @momentum> ()
    decay = Constant <value_float : float = @weight_decay> ()
    ahead = Constant <value_int : int = @nesterov> ()
    look_ahead = Cast <to = 9> (ahead)
    scaled = Mul (gradient, factor)
    decayed = Mul (p, decay)
    g = Add (scaled, decayed)
    kept = Mul (m, mu)
    new_m = Add (kept, g)
    direction = If (look_ahead) <
        then_branch = ahead_of_m () => (float[] ahead_step) {
            next = Mul (new_m, mu)
            ahead_step = Add (g, next)
        },
        else_branch = along_m () => (float[] step) {
            step = Identity (new_m)
        }
    >
    change = Mul (direction, rate)
    new_p = Sub (p, change)
}
""")

# Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019. The corrections of the bias,
# 1 - beta^t, are inputs: they are the same for every parameter, and no kernel of ours needs a power.
# The root is taken in float64, and is so the nearest float32: ONNX Runtime's float32 Sqrt is not.
ADAMW_UPDATE = function("""
AdamWUpdate <beta1 : float = 0.9, beta2 : float = 0.999, epsilon : float = 1e-8, weight_decay : float = 0.0>
    (p, gradient, factor, rate, correction1, correction2, mean, square) => (new_p, new_mean, new_square) {
    b1 = Constant <value_float : float = @beta1> ()
    b2 = Constant <value_float : float = @beta2> ()
    tiny = Constant <value_float : float = @epsilon> ()
    decay = Constant <value_float : float = @weight_decay> ()
    one = Constant <value = float {1}> ()
    rest1 = Sub (one, b1)
    rest2 = Sub (one, b2)
    g = Mul (gradient, factor)
    kept_mean = Mul (mean, b1)
    added_mean = Mul (g, rest1)
    new_mean = Add (kept_mean, added_mean)
    gg = Mul (g, g)
    kept_square = Mul (square, b2)
    added_square = Mul (gg, rest2)
    new_square = Add (kept_square, added_square)
    mean_hat = Div (new_mean, correction1)
    square_hat = Div (new_square, correction2)
    wide_square = Cast <to = 11> (square_hat)
    wide_root = Sqrt (wide_square)
    root = Cast <to = 1> (wide_root)
    divisor = Add (root, tiny)
    direction = Div (mean_hat, divisor)
    shrink = Mul (rate, decay)
    kept_share = Sub (one, shrink)
    kept = Mul (p, kept_share)
    change = Mul (direction, rate)
    new_p = Sub (kept, change)
}
""")
