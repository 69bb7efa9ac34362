//! The kernels over vector registers, written once over the trait [`Simd`](simd::Simd).
//!
//! Every function here is inlined into an entry of an instruction set's table, which enables its features; see
//! [`table!`].

pub(crate) mod arrange;
pub(crate) mod arrange_codes;
pub(crate) mod attention;
mod block_factors;
pub(crate) mod blocks;
pub(crate) mod dot;
pub(crate) mod elementwise;
pub(crate) mod fp8;
mod group_codes;
pub(crate) mod int_dot;
pub(crate) mod ints;
pub(crate) mod level;
pub(crate) mod linear;
pub(crate) mod low_rank;
pub(crate) mod math;
mod planes;
pub(crate) mod products;
pub(crate) mod quantized;
pub(crate) mod simd;

/// Defines the table `TABLE` of an instruction set: for every kernel a safe function that enters its generic version
/// with the features enabled. The table must be handed out only after the features were detected. Linear operations have
/// features of their own, see [`level!`](level::level); the functions `prepare` and `linear` and the constant
/// `BLOCKING` stand beside the table.
macro_rules! table {
    ($isa:expr, $token:ty, $features:literal) => {
        pub(crate) const TABLE: $crate::Kernels = $crate::Kernels {
            isa: $isa,
            blocking: |_, _| BLOCKING,
            prepare,
            linear,
            attention: entry::attention,
            norm: entry::norm,
            norm_in_place: entry::norm_in_place,
            rope: entry::rope,
            rope_neighbours: entry::rope_neighbours,
            glu: entry::glu,
            map: entry::map,
            add: entry::add,
            row_stats: entry::row_stats,
            sum_exp: entry::sum_exp,
            weigh: entry::weigh,
            low_rank_down: entry::low_rank_down,
            low_rank_up: entry::low_rank_up,
        };

        mod entry {
            use super::*;
            use $crate::vector::table;

            table!(@entry $token, $features, attention, attention(
                task: &$crate::attention::AttentionTask<'_>, area: &mut $crate::attention::Area<'_>));
            table!(@entry $token, $features, elementwise,
                norm(x: &[f32], norm: &$crate::Norm<'_>, out: &mut [f32]));
            table!(@entry $token, $features, elementwise,
                norm_in_place(x: &mut [f32], norm: &$crate::Norm<'_>));
            table!(@entry $token, $features, elementwise, rope(head: &mut [f32], cos: &[f32], sin: &[f32]));
            table!(@entry $token, $features, elementwise,
                rope_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]));
            table!(@entry $token, $features, elementwise, map(x: &mut [f32], map: $crate::Map));
            table!(@entry $token, $features, elementwise,
                glu(task: &$crate::gated::GluTask<'_>));
            table!(@entry $token, $features, elementwise, add(x: &mut [f32], y: &[f32]));
            table!(@entry $token, $features, elementwise, row_stats(x: &[f32]) -> $crate::RowStats);
            table!(@entry $token, $features, elementwise, sum_exp(x: &[f32], max: f32, scale: f32) -> f32);
            table!(@entry $token, $features, elementwise, weigh(x: &[f32], max: f32, scale: f32, out: &mut [f32]));
            table!(@entry $token, $features, low_rank, low_rank_down(task: $crate::low_rank::DownTask<'_>));
            table!(@entry $token, $features, low_rank, low_rank_up(task: $crate::low_rank::UpTask<'_>));
        }
    };
    (@entry $token:ty, $features:literal, $module:ident, $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        pub(super) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[target_feature(enable = $features)]
            fn enter($($arg: $ty),*) $(-> $ret)? {
                $crate::vector::$module::$name(<$token>::here(), $($arg),*)
            }
            // SAFETY: the table is handed out only after the features were detected.
            unsafe { enter($($arg),*) }
        }
    };
}
pub(crate) use table;
