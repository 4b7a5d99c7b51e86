//! Known-answer tests of every cipher that ships, to be run on every target: a compiler or linker that breaks one for
//! some CPU breaks it for both ends of a connection to oneself alike, which nobody would see. Vectors from the
//! specifications named. What an agreement of keys gives can't be fixed here: `tests/e2e/tls.rs` has OpenSSL shake
//! hands by each group, suite and kind of key.

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use ring::digest::{SHA256, SHA384, SHA512, digest};
use ring::signature::{self, Ed25519KeyPair, UnparsedPublicKey, VerificationAlgorithm};
use ring::{hkdf, hmac as ring_hmac};
use sha2::Digest;

use crate::media::test::hex;

/// One message through a cipher, both ways; a flipped bit anywhere is refused.
fn seals(algorithm: &'static Algorithm, key: &str, nonce: &str, aad: &str, plain: &[u8], sealed: &str) {
    let key = LessSafeKey::new(UnboundKey::new(algorithm, &hex(key)).unwrap());
    let nonce = || Nonce::try_assume_unique_for_key(&hex(nonce)).unwrap();
    let (aad, sealed) = (hex(aad), hex(sealed));
    let mut text = plain.to_vec();
    key.seal_in_place_append_tag(nonce(), Aad::from(&aad), &mut text).unwrap();
    assert_eq!(text, sealed, "{algorithm:?}");
    assert_eq!(key.open_in_place(nonce(), Aad::from(&aad), &mut text).unwrap(), plain, "{algorithm:?}");
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 1;
        assert!(
            key.open_in_place(nonce(), Aad::from(&aad), &mut forged).is_err(),
            "{algorithm:?}, byte {at}"
        );
    }
}

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 4 and 16.
#[test]
fn aes_gcm() {
    let plain = hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39");
    let (nonce, aad) = ("cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let key = "feffe9928665731c6d6a8f9467308308";
    let sealed = "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
                  21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091
                  5bc94fbc3221a5db94fae95ae7121a47";
    seals(&AES_128_GCM, key, nonce, aad, &plain, sealed);
    let sealed = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                  8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
                  76fc6ece0f4e1768cddf8853bb2d551b";
    seals(&AES_256_GCM, &key.repeat(2), nonce, aad, &plain, sealed);
}

/// RFC 8439 2.8.2.
#[test]
fn chacha20_poly1305() {
    let plain =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                  sunscreen would be it.";
    let key = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";
    let sealed = "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
                  3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
                  92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
                  3ff4def08e4b7a9de576d26586cec64b6116
                  1ae10b594f09e26a7e902ecbd0600691";
    seals(&CHACHA20_POLY1305, key, "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7", plain, sealed);
}

/// FIPS 180-4, the examples of NIST: one block, and a million letters.
#[test]
fn sha() {
    let million = vec![b'a'; 1_000_000];
    let sha1 = |data: &[u8]| sha1::Sha1::digest(data).to_vec();
    assert_eq!(sha1(b"abc"), hex("a9993e364706816aba3e25717850c26c9cd0d89d"));
    assert_eq!(sha1(&million), hex("34aa973cd4c4daa4f61eeb2bdbad27316534016f"));

    let one = hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let many = hex("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    assert_eq!(sha2::Sha256::digest(b"abc").to_vec(), one);
    assert_eq!(sha2::Sha256::digest(&million).to_vec(), many);
    assert_eq!(digest(&SHA256, b"abc").as_ref(), one);
    assert_eq!(digest(&SHA256, &million).as_ref(), many);

    let one = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed
               8086072ba1e7cc2358baeca134c825a7";
    let many = "9d0e1809716474cb086e834e310a4a1ced149e9c00f248527972cec5704c2a5b
                07b8b3dc38ecc4ebae97ddd87f3d8985";
    assert_eq!(digest(&SHA384, b"abc").as_ref(), hex(one));
    assert_eq!(digest(&SHA384, &million).as_ref(), hex(many));

    let one = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a
               2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
    let many = "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb
                de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b";
    assert_eq!(digest(&SHA512, b"abc").as_ref(), hex(one));
    assert_eq!(digest(&SHA512, &million).as_ref(), hex(many));
}

/// RFC 4231 4.3.
#[test]
fn hmac_sha2() {
    let (key, data) = (b"Jefe", b"what do ya want for nothing?");
    let sha256 = hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    let mut ours = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    ours.update(data);
    assert_eq!(ours.finalize().into_bytes().to_vec(), sha256);
    let ring = |algorithm| ring_hmac::sign(&ring_hmac::Key::new(algorithm, key), data);
    assert_eq!(ring(ring_hmac::HMAC_SHA256).as_ref(), sha256);
    let sha384 = "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e
                  8e2240ca5e69e2c78b3239ecfab21649";
    assert_eq!(ring(ring_hmac::HMAC_SHA384).as_ref(), hex(sha384));
}

/// RFC 5869 A.1.
#[test]
fn hkdf_sha256() {
    struct Len(usize);
    impl hkdf::KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &hex("000102030405060708090a0b0c"));
    let key = salt.extract(&[0x0b; 22]);
    let mut out = [0; 42];
    key.expand(&[&hex("f0f1f2f3f4f5f6f7f8f9")], Len(out.len())).unwrap().fill(&mut out).unwrap();
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(out.to_vec(), hex(expected));
}

/// Accepts the signature of `message`, and none of another message or with a flipped bit.
fn verifies(algorithm: &'static dyn VerificationAlgorithm, key: &str, message: &[u8], signature: &str) {
    let (key, mut signature) = (UnparsedPublicKey::new(algorithm, hex(key)), hex(signature));
    key.verify(message, &signature).unwrap();
    assert!(key.verify(b"another", &signature).is_err());
    for at in [0, signature.len() / 2, signature.len() - 1] {
        signature[at] ^= 1;
        assert!(key.verify(message, &signature).is_err(), "{algorithm:?}, byte {at}");
        signature[at] ^= 1;
    }
}

/// RFC 6979 A.2.5 and A.2.6: the signature of "sample".
#[test]
fn ecdsa() {
    let key = "04 60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6
                  7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    let signature = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716
                     f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
    verifies(&signature::ECDSA_P256_SHA256_FIXED, key, b"sample", signature);
    let key = "04 ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64
                  def8f0ea9055866064a254515480bc13
                  8015d9b72d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1
                  288b231c3ae0d4fe7344fd2533264720";
    let signature = "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c
                     81a648152e44acf96e36dd1e80fabe46
                     99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94f
                     a329c145786e679e7b82c71a38628ac8";
    verifies(&signature::ECDSA_P384_SHA384_FIXED, key, b"sample", signature);
}

/// RFC 8032 7.1, test 3. Signing, too: it is the same each time.
#[test]
fn ed25519() {
    let seed = hex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7");
    let key = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
    let signature = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
                     18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";
    let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &hex(key)).unwrap();
    assert_eq!(pair.sign(&hex("af82")).as_ref(), hex(signature));
    verifies(&signature::ED25519, key, &hex("af82"), signature);
}

/// No RFC has examples of 2048 bits: OpenSSL 3 signed these.
#[test]
fn rsa() {
    let modulus = "
        eae33a6ef573ded1f110cb612a5f6abfd885008b06da9594ac32e9f8ad16e324c5080e66356d6df04590f2a064136fdd
        d0798290ca01ada19b9169cead37b51782327c250fc806383fa23b56eaff06275035ee2df2125c8c6956393d89bf1160
        bd6e5817fdd68dbff472a211063a864e595e0a8f5b6eeac2afefbc8168a72a5146a4eb05b842dacdb4503f0fc51e624c
        c46b50f3cad9899a3c426b0bf88e075d0f8370992868edb4955545fc88afc8f8bd7572d7f001f3598c84bed7575c5d68
        6f2822d8fd985fd6052a27428bbd634cbf47a3e2d7add3c07ac01588a04e8379bbbd98b0f452fd330d0d90f7ec756ff7
        71e45c73d5cdc8b2e1a30473255ab709";
    // RFC 8017 A.1.1: modulus and exponent, in DER.
    let key = format!("3082010a 02820101 00 {modulus} 0203 010001");
    let signature = "
        192a4a13e05f8e3ff1f198800c6c62241dc18c023cb37ad26ba4614f65d89228e5102931ec5eaee8f870d511b8c16690
        14bc1af46245e1d45b751ef8154d3a8a69c1dd7f84826447586997ae0b71c9d4aff3d9dda1ded80051528a35e7d056ab
        4ea267953417f9a54c118f278adb70ad5184ff5002f0b8a721c3ec938e6c717533e7e6f6a0fbe5bb39fc62ea0cf6676a
        bfefa27fb3bef9a30e7a57c2db0f57efa065284ec8bf253a742da2bcd1d6b7cfc03d91a23672de87b2e4a0a22f72bcae
        5c66c391e636572677bed7beb38c7f49f1cfe4acc014f76c431e43f669ca92ee6e1333984f3ac9f704ba5950ec57fc28
        277ecfa0eae5a8c43302c25ad9d91e85";
    verifies(&signature::RSA_PKCS1_2048_8192_SHA256, &key, b"sample", signature);
    let signature = "
        672d8780308f12fb0c6410ffab98b88d5578818a780dc2465eccaa5d281f3315bc4f20cd4554315868a06e47c45c09c9
        024950e457d7bb5630d855b3fecbc6c3a20dee6c3298a0609668baf483e4e49772150eda378711c113859420d1db5243
        a32e1c29d1b3435d00bf037c94976369fdcaaf03786ec2f23571a5e33849aaea2f26b08d8991dd4b3b93579f4886112d
        7f2d698dc99b7430ea59dd82b2d39e6f4e3533e80a5e78850a0fee9ce334eaa05cdf10fb5cd156bba0e53c96da5c95b0
        7c88ee793a49d43cbde23d70b655a0c545ecff56c98b68de3d66251b29580736c12317361fe2622a30976e0a9962e766
        dcbde4c39aeecac1e6b507ef5ad53cfb";
    verifies(&signature::RSA_PSS_2048_8192_SHA384, &key, b"sample", signature);
}
