//! Matrix products.

use burn::tensor::Tensor;

use super::call::{Call, Size, broadcast, count};
use super::{Operator, Planned, take};

/// `alpha · A · B + beta · C`, A and B transposed where asked.
#[derive(Clone, Copy, Debug)]
pub(in crate::retrain) struct Product {
    transposed: [bool; 2],
    alpha: f32,
    beta: f32,
    /// B is one matrix for all images.
    one_matrix: bool,
}

pub(super) fn plan(call: &Call) -> Result<Option<Planned>, String> {
    let product = match call.operator() {
        "Gemm" => {
            call.only(&["alpha", "beta", "broadcast", "transA", "transB"], 3)?;
            Product {
                transposed: [call.int("transA", 0) != 0, call.int("transB", 0) != 0],
                alpha: call.float("alpha", 1.0),
                beta: call.float("beta", 1.0),
                one_matrix: true,
            }
        }
        "MatMul" => {
            call.only(&[], 2)?;
            Product {
                transposed: [false; 2],
                alpha: 1.0,
                beta: 1.0,
                one_matrix: call.shape(1)?.len() == 2,
            }
        }
        _ => return Ok(None),
    };
    let (a, b) = (matrix(call, 0, product)?, matrix(call, 1, product)?);
    let misfit = || format!("matrices of shapes {a:?} and {b:?} cannot be multiplied");
    let ([before_a @ .., rows, inner], [before_b @ .., inner_b, columns]) = (&a[..], &b[..]) else {
        return Err(misfit());
    };
    if inner != inner_b || *inner == Size::Batch || *columns == Size::Batch {
        return Err(misfit());
    }
    let mut shape = broadcast(before_a, before_b).ok_or_else(misfit)?;
    shape.extend([*rows, *columns]);
    let multiplications = (count(&shape) * count(&[*inner])) as u64;
    let mut operands = vec![0, 1];
    if call.operator() == "Gemm" && call.given(2).is_some() {
        if a.len() != 2 || broadcast(call.shape(2)?, &shape).as_ref() != Some(&shape) {
            return Err(format!(
                "its C of shape {:?} does not fit {shape:?}",
                call.shape(2)?
            ));
        }
        operands.push(2);
    }
    let mut planned = Planned::new(Operator::Product(product), &operands, shape);
    planned.multiplications = multiplications;
    Ok(Some(planned))
}

/// An input's shape, as it is multiplied.
fn matrix(call: &Call, k: usize, product: Product) -> Result<Vec<Size>, String> {
    let mut shape = call.shape(k)?.to_vec();
    let rank = shape.len();
    if rank < 2 {
        return Err(format!(
            "its input {k} has {rank} dimensions, not 2 or more"
        ));
    }
    if product.transposed[k] {
        shape.swap(rank - 2, rank - 1);
    }
    Ok(shape)
}

impl Product {
    pub(super) fn apply(self, inputs: Vec<Tensor<4>>) -> Tensor<4> {
        let bias = inputs.get(2).cloned();
        let [a, b] = take(inputs);
        let turn = |t: Tensor<4>, turned: bool| if turned { t.transpose() } else { t };
        let (a, b) = (turn(a, self.transposed[0]), turn(b, self.transposed[1]));
        let [n, m, rows, inner] = a.dims();
        let columns = b.dims()[3];
        let product = if self.one_matrix {
            // One long product is faster than one for each image.
            let a = a.reshape([1, 1, n * m * rows, inner]);
            a.matmul(b).reshape([n, m, rows, columns])
        } else {
            a.matmul(b)
        };
        let scaled = |t: Tensor<4>, by: f32| if by == 1.0 { t } else { t.mul_scalar(by) };
        let product = scaled(product, self.alpha);
        match bias {
            Some(bias) => product + scaled(bias, self.beta),
            None => product,
        }
    }
}
