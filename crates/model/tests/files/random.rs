//! Models of public shapes with random weights.

use pagoda_model::{Checkpoint, Dtype, ModelSource, RandomShape, Role, RopeScaling, ShapeError, TensorData};

fn shape(name: &str) -> RandomShape {
    name.parse().expect("a known shape")
}

#[test]
fn shapes_have_the_sizes_of_the_public_models() {
    // Parameters as the model cards count them, a tied head once.
    let expected = [
        ("qwen2.5-0.5b", 494_032_768),
        ("qwen2.5-1.5b", 1_543_714_304),
        ("qwen2.5-7b", 7_615_616_512),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.2-3b", 3_212_749_824),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-1.7b", 1_720_574_976),
        ("qwen3-4b", 4_022_468_096),
        ("qwen3-8b", 8_190_735_360),
        ("mistral-7b", 7_248_023_552),
        ("qwen3-30b-a3b", 30_532_122_624),
        ("mixtral-8x7b", 46_702_792_704),
        ("gemma-2-2b", 2_614_341_888),
        ("gemma-3-1b", 999_885_952),
        ("phi-3-mini", 3_821_079_552),
        ("smollm3-3b", 3_075_098_624),
        ("olmo-2-1b", 1_484_916_736),
        ("gpt2", 124_439_808),
        ("pythia-1.4b", 1_414_647_808),
        ("starcoder2-3b", 3_030_371_328),
    ];
    for (name, parameters) in expected {
        let checkpoint = Checkpoint::random(shape(name), 0);
        assert_eq!(checkpoint.parameters(), parameters, "{name}");
        assert_eq!(checkpoint.stored_bytes(), 2 * parameters, "{name}");
        assert_eq!(checkpoint.source().to_string(), name);
        assert_eq!(checkpoint.spec().dtype, Dtype::Bf16);
        assert!(checkpoint.check_unchanged().is_ok());
    }
    assert_eq!(RandomShape::all().count(), expected.len() + 2);
}

#[test]
fn llama_3_stretches_its_positions_and_the_others_do_not() {
    for shape in RandomShape::all() {
        let checkpoint = Checkpoint::random(shape, 0);
        let stretched = checkpoint.spec().ropes.iter().any(|rope| rope.scaling != RopeScaling::None);
        assert_eq!(stretched, shape.name().starts_with("llama-3"), "{shape}");
    }
}

#[test]
fn an_unknown_shape_is_refused_with_the_known_ones() {
    let error: ShapeError = "gpt-5".parse::<RandomShape>().expect_err("unknown");
    let message = error.to_string();
    assert!(message.contains("\"gpt-5\""), "{message}");
    for known in RandomShape::all() {
        assert!(message.contains(known.name()), "{message}");
        assert_eq!(known.name().to_uppercase().parse(), Ok(known));
    }
}

#[test]
fn weights_are_a_function_of_the_seed_and_differ_from_tensor_to_tensor() {
    let open = |seed| Checkpoint::open(&ModelSource::Random { shape: shape("tiny"), seed }).expect("a model");
    let (one, again, other) = (open(1), Checkpoint::random(shape("tiny"), 1), open(2));
    let mut firsts = Vec::new();
    for (role, tensor) in one.tensors() {
        let bytes = tensor.bytes();
        assert_eq!(bytes.len(), tensor.byte_len(), "{role}");
        assert_eq!(bytes, again.tensor(role).bytes(), "{role}");
        assert_ne!(bytes, other.tensor(role).bytes(), "{role}");
        let TensorData::Bf16(elements) = tensor.data() else { panic!("{role} is not bf16") };
        assert_eq!(bytes, elements.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(), "{role}");
        assert!(elements.iter().all(|x| x.is_finite()), "{role}");
        firsts.push(bytes[..64].to_vec());
    }
    assert_eq!(one.tensor(Role::Head).bytes(), one.tensor(Role::Embedding).bytes(), "a tied head");
    let count = firsts.len();
    firsts.sort();
    firsts.dedup();
    assert_eq!(firsts.len(), count);
}

#[test]
fn there_are_no_files_but_config_and_tokenizer() {
    let checkpoint = Checkpoint::random(shape("tiny"), 0);
    for (name, there) in
        [("config.json", true), ("tokenizer.json", true), ("generation_config.json", false), ("x", false)]
    {
        assert_eq!(checkpoint.file(name).expect("readable").is_some(), there, "{name}");
    }
}
