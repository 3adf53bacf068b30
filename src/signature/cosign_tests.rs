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
