use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/signatures/", $name)).as_slice()
    };
}

const ARCHIVE: &[u8] = fixture!("signed.tar.gz");

fn keys(entries: &[(&str, &[u8])]) -> PublicKeys {
    let data = entries.iter().map(|(entry, value)| (entry.to_string(), value.to_vec())).collect();
    PublicKeys::from_secret(Provider::Cosign, "Secret keys", &data).unwrap()
}

fn right() -> PublicKeys {
    keys(&[("new.pub", fixture!("other-ecdsa.pub")), ("old.pub", fixture!("ecdsa.pub"))])
}

fn file(keys: &PublicKeys, signature: &[u8], content: &[u8]) -> Result<Verified, String> {
    verify_file(keys, signature, &Digest::of(content)).map_err(|fault| fault.to_string())
}

#[test]
fn a_files_signature_is_found_with_any_one_of_the_keys() {
    for end in ["", "\n", "\r\n"] {
        let signature = [fixture!("signed.tar.gz.sig"), end.as_bytes()].concat();
        let verified = file(&right(), &signature, ARCHIVE).unwrap();
        assert_eq!((verified.provider, verified.entry.as_str()), (Provider::Cosign, "old.pub"));
    }
}

#[test]
fn the_wrong_key_and_other_bytes_are_refused() {
    let wrong = keys(&[("new.pub", fixture!("other-ecdsa.pub"))]);
    let text = file(&wrong, fixture!("signed.tar.gz.sig"), ARCHIVE).unwrap_err();
    assert_eq!(text, "was made with none of the keys new.pub, or for other bytes");
    let mut changed = ARCHIVE.to_vec();
    changed[100] ^= 1;
    let text = file(&right(), fixture!("signed.tar.gz.sig"), &changed).unwrap_err();
    assert_eq!(text, "was made with none of the keys new.pub, old.pub, or for other bytes");
}

#[test]
fn every_changed_byte_of_the_signature_is_found() {
    let signature = STANDARD.decode(fixture!("signed.tar.gz.sig")).unwrap();
    for index in 0..signature.len() {
        let mut changed = signature.clone();
        changed[index] ^= 1;
        assert!(file(&right(), STANDARD.encode(changed).as_bytes(), ARCHIVE).is_err(), "byte {index}");
    }
}

#[test]
fn what_is_no_signature_is_named() {
    let expected = "is no cosign signature; expected base64 of an ECDSA signature in ASN.1, or a Sigstore bundle";
    for signature in [b"".as_slice(), b"<html>", &[0xff; 70], b"MEUCIQ==", fixture!("signed.tar.gz.minisig")] {
        assert_eq!(file(&right(), signature, ARCHIVE).unwrap_err(), expected);
    }
}

// what follows was made by cosign itself

const ARTIFACT: &[u8] = fixture!("cosign/artifact.json");
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

fn cosign() -> PublicKeys {
    keys(&[("other.pub", fixture!("other-ecdsa.pub")), ("cosign.pub", fixture!("cosign/cosign.pub"))])
}

fn payload_signature() -> String {
    let manifest: serde_json::Value = serde_json::from_slice(fixture!("cosign/signature-manifest.json")).unwrap();
    manifest["layers"][0]["annotations"][SIGNATURE].as_str().unwrap().to_owned()
}

fn payload(payload: &[u8], digest: &Digest) -> Result<Verified, String> {
    verify_image_payload(&cosign(), payload, &payload_signature(), digest).map_err(|fault| fault.to_string())
}

fn image(bundle: &[u8], digest: &Digest) -> Result<Verified, String> {
    verify_image_bundle(&cosign(), bundle, digest).map_err(|fault| fault.to_string())
}

#[test]
fn cosigns_signature_of_a_file_is_found_in_every_form() {
    for signature in
        [fixture!("cosign/blob.sig"), fixture!("cosign/blob.bundle"), fixture!("cosign/blob.sigstore.json")]
    {
        assert_eq!(file(&cosign(), signature, ARCHIVE).unwrap().entry, "cosign.pub");
        assert!(file(&right(), signature, ARCHIVE).unwrap_err().starts_with("was made with none of the keys"));
        assert!(file(&cosign(), signature, b"other").is_err());
    }
}

#[test]
fn a_bundle_for_other_bytes_says_for_which() {
    let text = file(&cosign(), fixture!("cosign/blob.sigstore.json"), b"other").unwrap_err();
    let expected = format!("is for \"{}\", not for {}", Digest::of(ARCHIVE), Digest::of("other"));
    assert_eq!(text, expected);
}

#[test]
fn a_bundle_that_says_another_digest_than_it_signs_is_refused() {
    let other = Digest::of("other");
    let bundle = String::from_utf8(fixture!("cosign/blob.sigstore.json").to_vec()).unwrap();
    let lie = bundle.replace(&STANDARD.encode(Digest::of(ARCHIVE).as_bytes()), &STANDARD.encode(other.as_bytes()));
    assert_ne!(lie, bundle);
    let text = file(&cosign(), lie.as_bytes(), b"other").unwrap_err();
    assert_eq!(text, "was made with none of the keys cosign.pub, other.pub, or for other bytes");
}

#[test]
fn an_artifacts_payload_must_name_its_digest() {
    let signed = fixture!("cosign/payload.json");
    assert_eq!(payload(signed, &Digest::of(ARTIFACT)).unwrap().entry, "cosign.pub");
    let other = Digest::of("other");
    let text = payload(signed, &other).unwrap_err();
    assert_eq!(text, format!("is for \"{}\", not for {other}", Digest::of(ARTIFACT)));
    for index in 0..signed.len() {
        let mut changed = signed.to_vec();
        changed[index] ^= 1;
        assert!(payload(&changed, &Digest::of(ARTIFACT)).is_err(), "byte {index}");
    }
}

#[test]
fn the_signature_of_a_file_is_none_of_an_artifact_and_the_other_way_round() {
    // a file whose bytes are a payload is no reason to install what the payload names, nor is the payload an archive
    let signature = payload_signature();
    assert!(file(&cosign(), signature.as_bytes(), fixture!("cosign/payload.json")).is_ok());
    assert!(file(&cosign(), signature.as_bytes(), ARTIFACT).is_err());
    let blob = std::str::from_utf8(fixture!("cosign/blob.sig")).unwrap();
    let fault = verify_image_payload(&cosign(), ARCHIVE, blob, &Digest::of(ARCHIVE)).unwrap_err().to_string();
    assert!(fault.starts_with("signs a payload that cannot be read: "), "{fault}");
}

#[test]
fn an_artifacts_bundle_must_be_the_statement_that_signs_it() {
    let digest = Digest::of(ARTIFACT);
    assert_eq!(image(fixture!("cosign/sign.sigstore.json"), &digest).unwrap().entry, "cosign.pub");
    let other = Digest::of("other");
    assert_eq!(
        image(fixture!("cosign/sign.sigstore.json"), &other).unwrap_err(),
        format!("is for {digest}, not for {other}")
    );
    assert_eq!(
        image(fixture!("cosign/attestation.sigstore.json"), &digest).unwrap_err(),
        "is a statement of type \"https://cosign.sigstore.dev/attestation/v1\", which says something about the artifact but \
         does not sign it; expected https://sigstore.dev/cosign/sign/v1"
    );
    let fault = verify_image_bundle(&right(), fixture!("cosign/sign.sigstore.json"), &digest).unwrap_err();
    assert_eq!(fault.to_string(), "was made with none of the keys new.pub, old.pub, or for other bytes");
}

#[test]
fn a_changed_envelope_is_found() {
    let digest = Digest::of(ARTIFACT);
    let bundle: serde_json::Value = serde_json::from_slice(fixture!("cosign/sign.sigstore.json")).unwrap();
    let other = STANDARD.encode(
        String::from_utf8(STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap())
            .unwrap()
            .replace(&digest.hex(), &Digest::of("other").hex()),
    );
    for (field, value) in [("payload", other.as_str()), ("payloadType", "application/vnd.in-toto+jsox")] {
        let mut changed = bundle.clone();
        changed["dsseEnvelope"][field] = value.into();
        for digest in [digest, Digest::of("other")] {
            let text = image(changed.to_string().as_bytes(), &digest).unwrap_err();
            assert_eq!(text, "was made with none of the keys cosign.pub, other.pub, or for other bytes", "{field}");
        }
    }
}

#[test]
fn bundles_that_cannot_count_say_why() {
    let digest = Digest::of(ARCHIVE);
    let media_type = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let message = serde_json::json!({"signature": "AA=="});
    for (bundle, expected) in [
        (
            serde_json::json!({}),
            "is no Sigstore bundle: mediaType does not begin with application/vnd.dev.sigstore.bundle",
        ),
        (
            serde_json::json!({"mediaType": media_type}),
            "is no Sigstore bundle: expected one of messageSignature and dsseEnvelope",
        ),
        (
            serde_json::json!({"mediaType": media_type, "verificationMaterial": {"certificate": {}}, "messageSignature": message}),
            "was made with a certificate (keyless); only signatures made with a key are checked: sign with --key",
        ),
        (
            serde_json::json!({"base64Signature": "AA==", "cert": "x"}),
            "was made with a certificate (keyless); only signatures made with a key are checked: sign with --key",
        ),
        (
            serde_json::json!({"mediaType": media_type, "messageSignature": {"signature": "%"}}),
            "is no Sigstore bundle: messageSignature.signature is not base64",
        ),
        (
            serde_json::json!({"mediaType": media_type, "messageSignature": {"signature": "AA==", "messageDigest": {"algorithm": "SHA2_512", "digest": ""}}}),
            "is no Sigstore bundle: messageSignature.messageDigest.algorithm must be SHA2_256",
        ),
        (
            serde_json::json!({"mediaType": media_type, "messageSignature": message}),
            "is no cosign signature; expected base64 of an ECDSA signature in ASN.1, or a Sigstore bundle",
        ),
    ] {
        let text = verify_file(&cosign(), bundle.to_string().as_bytes(), &digest).unwrap_err().to_string();
        assert_eq!(text, expected);
    }
    let envelope = verify_file(&cosign(), fixture!("cosign/sign.sigstore.json"), &digest).unwrap_err().to_string();
    assert!(envelope.contains("expected messageSignature, as \"cosign sign-blob\" makes it"), "{envelope}");
    let cut = &fixture!("cosign/sign.sigstore.json")[..100];
    assert!(image(cut, &digest).unwrap_err().starts_with("is no Sigstore bundle: EOF"));
}

proptest::proptest! {
    #[test]
    fn no_text_is_taken_for_a_signature(text in "\\PC{0,200}", json in "[{}\\[\\]\":,a-zA-Z0-9]{0,80}") {
        for text in [text, format!("{{{json}}}")] {
            proptest::prop_assert!(file(&cosign(), text.as_bytes(), ARCHIVE).is_err());
            proptest::prop_assert!(image(text.as_bytes(), &Digest::of(ARCHIVE)).is_err());
        }
    }
}
