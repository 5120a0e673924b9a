// The mean of both phases of log4, as a sum of a value of each code (fourbit_onnx/formats/log4.py): the tables of an
// operand of two phases.
#pragma once

#include "kernels/gemm/planes.h"

namespace fourbit {

inline constexpr Values kEvenPart = {0, 0, 1, 5, 21, 85, 341, 1365, 0, 0, -1, -5, -21, -85, -341, -1365};
inline constexpr Values kOddPart = {0, 1, 3, 11, 43, 171, 683, 2731, 0, -1, -3, -11, -43, -171, -683, -2731};

inline Operand two_phases(const uint8_t* even, const uint8_t* odd) { return {even, kEvenPart, 0, odd, &kOddPart}; }

}  // namespace fourbit
