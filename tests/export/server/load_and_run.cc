// Loads a SavedModel with the loader of TensorFlow Serving, runs one signature, prints its outputs.
//
//   load_and_run FOLDER SIGNATURE bytes FILE...            one file per image
//   load_and_run FOLDER SIGNATURE pixels HEIGHT WIDTH FILE  uint8 [B, HEIGHT, WIDTH, 3], raw
//
// One line per output: name, dtype, shape as 2x5, then the values.

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

namespace {

tensorflow::tstring Content(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  return tensorflow::tstring(content.data(), content.size());
}

void Print(const std::string& name, const tensorflow::Tensor& tensor) {
  std::printf("%s %s ", name.c_str(), tensorflow::DataTypeString(tensor.dtype()).c_str());
  for (int axis = 0; axis < tensor.dims(); ++axis) {
    std::printf(axis ? "x%lld" : "%lld", static_cast<long long>(tensor.dim_size(axis)));
  }
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    switch (tensor.dtype()) {
      case tensorflow::DT_FLOAT:
        std::printf(" %.9g", tensor.flat<float>()(i));
        break;
      case tensorflow::DT_INT32:
        std::printf(" %d", tensor.flat<int32_t>()(i));
        break;
      case tensorflow::DT_STRING:
        std::printf(" %s", std::string(tensor.flat<tensorflow::tstring>()(i)).c_str());
        break;
      default:
        std::printf(" ?");
    }
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::cerr << "load_and_run FOLDER SIGNATURE bytes|pixels ...\n";
    return 2;
  }
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel(tensorflow::SessionOptions(), tensorflow::RunOptions(),
                                           argv[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  const auto found = bundle.GetSignatures().find(argv[2]);
  if (found == bundle.GetSignatures().end()) {
    std::cerr << "no signature " << argv[2] << "\n";
    return 1;
  }
  tensorflow::Tensor input;
  if (std::string(argv[3]) == "bytes") {
    input = tensorflow::Tensor(tensorflow::DT_STRING, tensorflow::TensorShape({argc - 4}));
    for (int i = 4; i < argc; ++i) {
      input.flat<tensorflow::tstring>()(i - 4) = Content(argv[i]);
    }
  } else {
    const auto content = Content(argv[6]);
    const int64_t height = std::stoll(argv[4]), width = std::stoll(argv[5]);
    const int64_t batch = static_cast<int64_t>(content.size()) / (height * width * 3);
    input = tensorflow::Tensor(tensorflow::DT_UINT8,
                               tensorflow::TensorShape({batch, height, width, 3}));
    std::memcpy(input.flat<uint8_t>().data(), content.data(), content.size());
  }
  const auto& signature = found->second;
  std::vector<std::string> names, tensors;
  for (const auto& output : signature.outputs()) {
    names.push_back(output.first);
    tensors.push_back(output.second.name());
  }
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run({{signature.inputs().begin()->second.name(), input}}, tensors, {},
                               &outputs);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  for (size_t i = 0; i < names.size(); ++i) {
    Print(names[i], outputs[i]);
  }
  return 0;
}
