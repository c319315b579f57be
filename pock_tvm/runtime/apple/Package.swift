// swift-tools-version:5.5
import PackageDescription

let package = Package(
  name: "PockModel",
  platforms: [.macOS(.v11)],
  products: [.library(name: "PockModel", targets: ["PockModel"])],
  targets: [
    .binaryTarget(name: "CPockModel", path: "CPockModel.xcframework"),
    .target(name: "PockModel", dependencies: ["CPockModel"], resources: [.copy("pock_model")]),
  ]
)
