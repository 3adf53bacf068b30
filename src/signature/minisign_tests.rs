use super::*;
use crate::digest::Digest;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/signatures/", $name)).as_slice()
    };
}

const ARCHIVE: &[u8] = fixture!("signed.tar.gz");
const SIGNATURE: &[u8] = fixture!("signed.tar.gz.minisig");

fn keys(entries: &[(&str, &[u8])]) -> PublicKeys {
    let data = entries.iter().map(|(entry, value)| (entry.to_string(), value.to_vec())).collect();
    PublicKeys::from_secret(Provider::Minisign, "Secret keys", &data).unwrap()
}

fn right() -> PublicKeys {
    keys(&[("new.pub", fixture!("other-minisign.pub")), ("old.pub", fixture!("minisign.pub"))])
}

fn verify(keys: &PublicKeys, signature: &[u8], content: &[u8]) -> Result<Verified, String> {
    super::super::verify_file(keys, signature, &Digest::of(content), content).map_err(|fault| fault.to_string())
}

#[test]
fn any_one_of_the_keys_is_enough_and_the_verdict_names_it() {
    let verified = verify(&right(), SIGNATURE, ARCHIVE).unwrap();
    assert_eq!((verified.provider, verified.entry.as_str()), (Provider::Minisign, "old.pub"));
    assert!(right().trust(&verified));
}

#[test]
fn the_wrong_key_is_refused() {
    let wrong = keys(&[("new.pub", fixture!("other-minisign.pub"))]);
    assert_eq!(verify(&wrong, SIGNATURE, ARCHIVE).unwrap_err(), "was made with none of the keys new.pub");
}

#[test]
fn a_key_that_imitates_the_signers_key_id_is_refused() {
    use base64::Engine as _;
    let line = |file: &[u8]| {
        let text = std::str::from_utf8(file).unwrap().lines().nth(1).unwrap().to_owned();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let mut imitation = line(fixture!("minisign.pub"));
    imitation[10..].copy_from_slice(&line(fixture!("other-minisign.pub"))[10..]);
    let imitation = base64::engine::general_purpose::STANDARD.encode(imitation);
    let both = keys(&[("a.pub", imitation.as_bytes()), ("b.pub", fixture!("minisign.pub"))]);
    assert_eq!(verify(&both, SIGNATURE, ARCHIVE).unwrap().entry, "b.pub");
    assert!(verify(&keys(&[("a.pub", imitation.as_bytes())]), SIGNATURE, ARCHIVE).is_err());
}

#[test]
fn every_changed_byte_of_the_archive_is_found() {
    for index in 0..ARCHIVE.len() {
        let mut changed = ARCHIVE.to_vec();
        changed[index] ^= 1;
        assert_eq!(
            verify(&right(), SIGNATURE, &changed).unwrap_err(),
            "does not fit the bytes: they are not those that were signed with old.pub"
        );
    }
    assert!(verify(&right(), SIGNATURE, &ARCHIVE[..ARCHIVE.len() - 1]).is_err());
    assert!(verify(&right(), SIGNATURE, b"").is_err());
}

#[test]
fn every_changed_line_of_the_signature_is_found() {
    let text = std::str::from_utf8(SIGNATURE).unwrap();
    let lines: Vec<_> = text.lines().collect();
    for (line, other) in [
        (1, lines[1].replacen('Z', "Y", 1)),
        (1, format!("{}A==", &lines[1][..lines[1].len() - 3])),
        (2, "trusted comment: signed 2.0.0".to_owned()),
        (3, lines[3].replacen('4', "5", 1)),
    ] {
        let mut changed = lines.clone();
        changed[line] = &other;
        assert!(verify(&right(), changed.join("\n").as_bytes(), ARCHIVE).is_err(), "line {line}");
    }
    // this one is for people, and signed by nobody
    assert!(verify(&right(), text.replacen("minisign secret key", "x", 1).as_bytes(), ARCHIVE).is_ok());
}

#[test]
fn the_legacy_format_is_refused_with_the_way_out() {
    let text = verify(&right(), fixture!("legacy.minisig"), ARCHIVE).unwrap_err();
    assert_eq!(text, "is in minisign's legacy format; sign again without -l");
}

#[test]
fn what_is_no_signature_is_named() {
    let expected = "is no minisign signature; expected the file that \"minisign -S\" writes";
    for signature in [b"".as_slice(), b"<html>", &[0xff; 300], fixture!("signed.tar.gz.sig"), fixture!("minisign.pub")]
    {
        assert_eq!(verify(&right(), signature, ARCHIVE).unwrap_err(), expected);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_verdict() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk"))
        }
    }
    let fault = verify_file(&right(), SIGNATURE, Broken).unwrap_err();
    assert_eq!(fault.to_string(), "could not be checked: reading the file failed: disk");
}

proptest::proptest! {
    #[test]
    fn no_text_is_taken_for_a_signature(text in "\\PC{0,200}", line in "[A-Za-z0-9+/]{0,120}={0,2}") {
        proptest::prop_assert!(verify(&right(), text.as_bytes(), ARCHIVE).is_err());
        let file = format!("untrusted comment: x\n{line}\ntrusted comment: x\n{line}\n");
        proptest::prop_assert!(verify(&right(), file.as_bytes(), ARCHIVE).is_err());
    }
}
