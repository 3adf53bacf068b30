use super::*;

const SECRET: &str = "Secret outrigger-system/keys of spec.source.verify.secretRef";

/// A fixture of tests/fixtures/signatures.
macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/fixtures/signatures/", $name)).as_slice()
    };
}

fn data(entries: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    entries.iter().map(|(entry, value)| (entry.to_string(), value.to_vec())).collect()
}

fn read(provider: Provider, entries: &[(&str, &[u8])]) -> Result<PublicKeys, KeysFault> {
    PublicKeys::from_secret(provider, SECRET, &data(entries))
}

fn refused(provider: Provider, entries: &[(&str, &[u8])]) -> String {
    let text = read(provider, entries).unwrap_err().to_string();
    text.strip_prefix(SECRET).and_then(|rest| rest.strip_prefix(": ")).expect(&text).to_owned()
}

#[test]
fn every_entry_that_ends_in_pub_is_a_key_and_others_are_left_alone() {
    let entries = [("a.pub", fixture!("ecdsa.pub")), ("b.pub", fixture!("other-ecdsa.pub")), ("cosign.key", b"x")];
    let keys = read(Provider::Cosign, &entries).unwrap();
    assert_eq!((keys.provider(), keys.entries()), (Provider::Cosign, "a.pub, b.pub".to_owned()));
    assert_eq!(format!("{keys:?}"), format!("cosign keys a.pub, b.pub of {SECRET}"));
}

#[test]
fn a_minisign_key_is_the_file_or_its_second_line() {
    let file = fixture!("minisign.pub");
    let line = std::str::from_utf8(file).unwrap().lines().nth(1).unwrap();
    let windows = format!("untrusted comment: x\r\n{line}\r\n");
    for text in [file, line.as_bytes(), windows.as_bytes()] {
        let keys = read(Provider::Minisign, &[("a.pub", text)]).unwrap();
        assert_eq!(keys, read(Provider::Minisign, &[("a.pub", file)]).unwrap());
    }
}

#[test]
fn a_secret_without_keys_and_one_with_too_many_are_refused() {
    assert_eq!(
        refused(Provider::Cosign, &[("cosign.key", b"x")]),
        "no public key; expected at least one entry whose name ends in .pub, such as cosign.pub or minisign.pub"
    );
    let names: Vec<_> = (0..33).map(|number| format!("{number}.pub")).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), fixture!("ecdsa.pub"))).collect();
    assert_eq!(refused(Provider::Cosign, &many), "33 entries end in .pub; at most 32 are allowed");
    assert!(read(Provider::Cosign, &many[..32]).is_ok());
}

#[test]
fn what_is_no_p256_key_is_named() {
    let allowed = "; allowed are ECDSA keys on the curve P-256, as \"cosign generate-key-pair\" makes them";
    let cosign = |value: &[u8]| refused(Provider::Cosign, &[("a.pub", fixture!("ecdsa.pub")), ("z.pub", value)]);
    assert_eq!(cosign(fixture!("p384.pub")), format!("z.pub: an ECDSA key on another curve{allowed}"));
    assert_eq!(cosign(fixture!("rsa.pub")), format!("z.pub: an RSA key{allowed}"));
    assert_eq!(cosign(fixture!("ed25519.pub")), format!("z.pub: an Ed25519 key{allowed}"));
    let not_pem = "z.pub: no PEM public key; expected one -----BEGIN PUBLIC KEY-----, as in cosign.pub";
    assert_eq!(cosign(fixture!("minisign.pub")), not_pem);
    let cut = &fixture!("ecdsa.pub")[..100];
    assert_eq!(cosign(cut), not_pem);
    let certificate = String::from_utf8(fixture!("ecdsa.pub").to_vec()).unwrap().replace("PUBLIC KEY", "CERTIFICATE");
    assert_eq!(cosign(certificate.as_bytes()), not_pem);
    assert_eq!(cosign(&fixture!("ecdsa.pub").repeat(2)), "z.pub: more than one key; give each an entry of its own");
    let not_text = "z.pub: empty, not text, or longer than 4096 bytes; expected one public key";
    for value in [&b" \n"[..], &[0xff; 20], &b"x".repeat(5000)] {
        assert_eq!(cosign(value), not_text);
    }
}

#[test]
fn a_point_that_is_not_on_the_curve_is_refused() {
    let pem = std::str::from_utf8(fixture!("ecdsa.pub")).unwrap();
    let (_, document) = Document::from_pem(pem).unwrap();
    let mut der = document.as_bytes().to_vec();
    *der.last_mut().unwrap() ^= 1;
    use base64::Engine as _;
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD
            .encode(der)
            .as_bytes()
            .chunks(64)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect::<Vec<_>>()
            .join("\n")
    );
    assert!(read(Provider::Cosign, &[("a.pub", pem.as_bytes())]).is_err());
}

#[test]
fn what_is_no_minisign_key_is_named() {
    let minisign = |value: &[u8]| refused(Provider::Minisign, &[("m.pub", value)]);
    let expected = "m.pub: no minisign public key; expected the file minisign.pub, or its second line";
    for value in [fixture!("ecdsa.pub"), b"untrusted comment: x", b"RWRZcsI1yvzfjQ==", &b"A".repeat(56)] {
        let text = minisign(value);
        assert!(text == expected || value == fixture!("ecdsa.pub"), "{text}");
    }
    assert_eq!(
        minisign(&fixture!("minisign.pub").repeat(2)),
        "m.pub: more than one key; give each an entry of its own"
    );
}

#[test]
fn a_private_key_by_mistake_is_named_without_its_content() {
    use base64::Engine as _;
    let text = "a private key; put the public key here, and make a new pair: \
                a key that was in a Secret of the cluster is no longer the signer's alone";
    for label in ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY"] {
        let pem = format!("-----BEGIN {label}-----\nc2VjcmV0\n-----END {label}-----\n");
        assert_eq!(refused(Provider::Cosign, &[("cosign.pub", pem.as_bytes())]), format!("cosign.pub: {text}"));
    }
    let secret = base64::engine::general_purpose::STANDARD.encode([7; 158]);
    let file = format!("untrusted comment: minisign encrypted secret key\n{secret}\n");
    assert_eq!(refused(Provider::Minisign, &[("m.pub", file.as_bytes())]), format!("m.pub: {text}"));
}

#[test]
fn what_was_verified_counts_while_its_key_is_trusted_wherever_it_lies() {
    let keys = |entries: &[(&str, &[u8])]| read(Provider::Cosign, entries).unwrap();
    let (one, other) = (fixture!("ecdsa.pub"), fixture!("other-ecdsa.pub"));
    let verified = keys(&[("a.pub", one)]).cosign()[0].verified(Provider::Cosign);
    assert!(keys(&[("a.pub", one)]).trust(&verified));
    assert!(keys(&[("a.pub", other), ("renamed.pub", one)]).trust(&verified));
    assert!(!keys(&[("a.pub", other)]).trust(&verified), "the entry was given another key");
    assert!(!keys(&[("a.pub", one)]).trust(&Verified { provider: Provider::Minisign, ..verified }));
}

#[test]
fn other_keys_are_other_keys() {
    let keys = |entries: &[(&str, &[u8])]| read(Provider::Cosign, entries).unwrap();
    let (one, other) = (fixture!("ecdsa.pub"), fixture!("other-ecdsa.pub"));
    assert_eq!(keys(&[("a.pub", one)]), keys(&[("a.pub", one)]));
    assert_ne!(keys(&[("a.pub", one)]), keys(&[("a.pub", other)]));
    assert_ne!(keys(&[("a.pub", one)]), keys(&[("a.pub", one), ("b.pub", other)]));
}

#[test]
fn providers_are_words() {
    for provider in Provider::ALL {
        assert_eq!(Provider::named(provider.as_str()), Some(*provider));
        assert_eq!(serde_json::to_value(provider).unwrap(), provider.to_string());
    }
    assert_eq!(Provider::named("Cosign"), None);
}
