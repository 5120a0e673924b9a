#include "ops/operators.h"

#include "ops/blocks.h"
#include "ops/kernels.h"
#include "ops/layers.h"
#include "ops/updates.h"

namespace fourbit {

const std::vector<Definition>& definitions() {
  constexpr Type f = Type::float32, i32 = Type::int32, i64 = Type::int64, bits = Type::uint8;
  constexpr Type int4 = Type::int4, uint4 = Type::uint4, codes = Type::codes;
  // clang-format off
  static const std::vector<Definition> all = {
      {"SawbScale",            make<SawbScale>,            {f},                            {f}},
      {"AbsMaxScale",          make<AbsMaxScale>,          {f},                            {f}},
      {"UnderflowScale",       make<UnderflowScale>,       {f},                            {f}},
      {"MinMaxScale",          make<MinMaxScale>,          {f},                            {f, i32}},
      {"GradientScale",        make<GradientScale>,        {f},                            {f}},
      {"LearnedGradientScale", make<LearnedGradientScale>, {f, f},                         {f, f}},
      {"DitherScale",          make<DitherScale>,          {f, f},                         {f}},
      {"QuantizeInt4",         make<QuantizeInt4>,         {f, f},                         {int4}},
      {"QuantizeAffine",       make<QuantizeAffine>,       {f, f, i32},                    {int4}},
      {"QuantizePact",         make<QuantizePact>,         {f, f},                         {uint4, f, bits, bits}},
      {"QuantizePactSigned",   make<QuantizePactSigned>,   {f, f},                         {int4, f, bits, bits}},
      {"QuantizeLog4",         make<QuantizeLog4>,         {f, f},                         {uint4, f}},
      {"QuantizeLog2",         make<QuantizeLog2>,         {f, f},                         {uint4}},
      {"QuantizeInt4Stochastic", make<QuantizeInt4Stochastic>, {f, f, f},                  {int4}},
      {"QuantizeLogStochastic", make<QuantizeLogStochastic>, {f, f, f},                    {uint4, f}},
      {"PactGrad",             make<PactGrad>,             {f, codes, bits},               {f, f}},
      {"PactPlusGrad",         make<PactPlusGrad>,         {f, codes, bits, bits},         {f, f}},
      {"Relu",                 make<Relu>,                 {f},                            {f, bits}},
      {"AddRelu",              make<AddRelu>,              {f, f},                         {f, bits}},
      {"Clip",                 make<Clip>,                 {f},                            {f, bits}},
      {"ReluGrad",             make<ReluGrad>,             {f, bits},                      {f}},
      {"SumReluGrad",          make<SumReluGrad>,          {f, f, bits},                   {f}},
      {"Gelu",                 make<Gelu>,                 {f},                            {f}},
      {"GeluGrad",             make<GeluGrad>,             {f, f},                         {f}},
      {"GatherGrad",           make<GatherGrad>,           {i64, i64, f},                  {f}},
      {"BatchNorm",            make<BatchNorm>,            {f, f, f, f, f},                {f, f, f, f, f}},
      {"BatchNormGrad",        make<BatchNormGrad>,        {f, f, f, f, f},                {f, f, f}},
      {"LayerNorm",            make<LayerNorm>,            {f, f, f},                      {f, f, f}},
      {"LayerNormGrad",        make<LayerNormGrad>,        {f, f, f, f, f},                {f, f, f}},
      {"SumRows",              make<SumRows>,              {f},                            {f}},
      {"SoftmaxGrad",          make<SoftmaxGrad>,          {f, f},                         {f}},
      {"LstmCell",             make<LstmCell>,             {f, f, f},                      {f, f, f}},
      {"LstmCellGrad",         make<LstmCellGrad>,         {f, f, f, f, f, f},             {f, f}},
      {"After",                make<After>,                {f, f},                         {f}},
      {"TransposeCodes",       make<TransposeCodes>,       {int4},                         {int4}},
      {"JoinCodes",            make<JoinCodes>,            {int4, int4},                   {int4}},
      {"RandomUniform",        make<RandomUniform>,        {i64, i64},                     {f}},
      {"QConv",                make<QConv>,                {codes, f, i32, codes, f, i32}, {f}},
      {"QConvInputGrad",       make<QConvInputGrad>,       {codes, f, codes, f, i32, i64}, {f}},
      {"QConvInputGradTwoPhase", make<QConvInputGradTwoPhase>, {uint4, uint4, f, codes, f, i32, i64}, {f}},
      {"QConvWeightGrad",      make<QConvWeightGrad>,      {codes, f, i32, codes, f, i64}, {f}},
      {"QConvWeightGradTwoPhase", make<QConvWeightGradTwoPhase>, {codes, f, i32, uint4, uint4, f, i64}, {f}},
      {"QMatMul",              make<QMatMul>,              {codes, f, i32, codes, f, i32}, {f}},
      {"QMatMulBias",          make<QMatMulBias>,          {codes, f, i32, codes, f, i32, f}, {f}},
      {"QMatMulTwoPhase",      make<QMatMulTwoPhase>,      {codes, f, i32, uint4, uint4, f}, {f}},
      {"Nvfp4Scale",           make<Nvfp4Scale>,           {f},                            {i32, f}},
      {"Mxfp4Scale",           make<Mxfp4Scale>,           {f},                            {i32, f}},
      {"Block16Scale",         make<Block16Scale>,         {f},                            {i32, f}},
      {"BlockHadamard",        make<BlockHadamard>,        {f},                            {f}},
      {"QBlockMatMul",         make<QBlockMatMul>,         {codes, i32, f, codes, i32, f}, {f}},
      {"QuantizeE2M1Blocks",   make<QuantizeE2M1Blocks>,   {f, i32, f},                    {uint4}},
      {"QuantizeInt4Blocks",   make<QuantizeInt4Blocks>,   {f, i32, f},                    {int4}},
      {"QuantizeE2M1BlocksStochastic", make<QuantizeE2M1Blocks>, {f, i32, f, f},           {uint4}},
      {"QuantizeInt4BlocksStochastic", make<QuantizeInt4Blocks>, {f, i32, f, f},           {int4}},
      {"SgdUpdate",            make<SgdUpdate>,            {f, f, f, f, f},                {f, f}},
      {"AdamWUpdate",          make<AdamWUpdate>,          {f, f, f, f, f, f, f, f},       {f, f, f}},
  };
  // clang-format on
  return all;
}

}  // namespace fourbit
