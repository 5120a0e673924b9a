"""Parameter updates as functions of standard operators."""

from fourbit_onnx.ops.text import function

# The update of PyTorch's SGD: g = grad + decay * p;  m = momentum * m + g;
# p = p - rate * (m, or g + momentum * m).
SGD_UPDATE = function("""
SgdUpdate <momentum : float = 0.9, nesterov : int = 0, weight_decay : float = 0.0>
    (p, gradient, rate, step, m) => (new_p, new_m) {
    mu = Constant <value_float : float = @momentum> ()
    decay = Constant <value_float : float = @weight_decay> ()
    ahead = Constant <value_int : int = @nesterov> ()
    look_ahead = Cast <to = 9> (ahead)
    decayed = Mul (p, decay)
    g = Add (gradient, decayed)
    kept = Mul (m, mu)
    new_m = Add (kept, g)
    next = Mul (new_m, mu)
    nesterov_step = Add (g, next)
    direction = Where (look_ahead, nesterov_step, new_m)
    change = Mul (direction, rate)
    new_p = Sub (p, change)
}
""")

# Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, with bias correction.
ADAMW_UPDATE = function("""
AdamWUpdate <beta1 : float = 0.9, beta2 : float = 0.999, epsilon : float = 1e-8, weight_decay : float = 0.0>
    (p, gradient, rate, step, mean, square) => (new_p, new_mean, new_square) {
    b1 = Constant <value_float : float = @beta1> ()
    b2 = Constant <value_float : float = @beta2> ()
    tiny = Constant <value_float : float = @epsilon> ()
    decay = Constant <value_float : float = @weight_decay> ()
    one = Constant <value = float {1}> ()
    rest1 = Sub (one, b1)
    rest2 = Sub (one, b2)
    kept_mean = Mul (mean, b1)
    added_mean = Mul (gradient, rest1)
    new_mean = Add (kept_mean, added_mean)
    gg = Mul (gradient, gradient)
    kept_square = Mul (square, b2)
    added_square = Mul (gg, rest2)
    new_square = Add (kept_square, added_square)
    t = Cast <to = 1> (step)
    power1 = Pow (b1, t)
    power2 = Pow (b2, t)
    correction1 = Sub (one, power1)
    correction2 = Sub (one, power2)
    mean_hat = Div (new_mean, correction1)
    square_hat = Div (new_square, correction2)
    root = Sqrt (square_hat)
    divisor = Add (root, tiny)
    direction = Div (mean_hat, divisor)
    shrink = Mul (rate, decay)
    kept_share = Sub (one, shrink)
    kept = Mul (p, kept_share)
    change = Mul (direction, rate)
    new_p = Sub (kept, change)
}
""")

OPTIMIZER_FUNCTIONS = {function.name: function for function in (SGD_UPDATE, ADAMW_UPDATE)}
