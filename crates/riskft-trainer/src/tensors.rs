//! Between libtorch's tensors and core's.

use riskft_core::network::FloatTensor;
use tch::{Device, Kind, Tensor};

/// Copies a tensor off the device, as f32.
pub fn to_float_tensor(tensor: &Tensor) -> FloatTensor {
    FloatTensor {
        shape: tensor.size().iter().map(|d| *d as usize).collect(),
        data: to_floats(tensor),
    }
}

/// The values of a tensor, row-major, as f32.
pub fn to_floats(tensor: &Tensor) -> Vec<f32> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let mut data = vec![0f32; flat.numel()];
    let count = data.len();
    flat.copy_data(&mut data, count);
    data
}

/// An index tensor on the device.
pub fn index(items: impl Iterator<Item = usize>, device: Device) -> Tensor {
    let items: Vec<i64> = items.map(|i| i as i64).collect();
    Tensor::from_slice(&items).to_device(device)
}

/// The values of a tensor, row-major, as f64.
pub fn to_doubles(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
    let mut data = vec![0f64; flat.numel()];
    let count = data.len();
    flat.copy_data(&mut data, count);
    data
}
